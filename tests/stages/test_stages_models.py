"""The stages import_model, quantize and answer on the tiny model."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conversations import make_rows
from fakes import write_lines

from baihua.chat.tokenizer import FolderTokenizer
from baihua.core import kinds
from baihua.core.errors import InputError, RunError
from baihua.core.recipe import lone_step
from baihua.core.stage import identity, run_into
from baihua.data.rows import write_rows
from baihua.stages.answer import _speed
from baihua.stages.import_model import _compare_tokenizers

HASH = "a" * 64


def run(kind: str, out: Path, inputs: dict[str, Path] | None = None, **fields: Any) -> dict[str, Any]:
    stage = kinds.find("baihua.stages", kind)
    out.mkdir(parents=True, exist_ok=True)
    return stage.run(stage.Config.model_validate(fields), inputs or {}, out)


def source_of(source: str) -> Any:
    return lone_step("import_model", [f"source={source}"], roles=[]).config


def test_a_gguf_becomes_a_folder_with_the_same_tokenizer(tiny_folder: Path, tiny_gguf: Path, tmp_path: Path) -> None:
    figures = run("import_model", tmp_path, source=str(tiny_gguf))
    assert figures["num_texts_compared"] > 800
    text = "你好，世界！Hello <|im_end|>"
    assert FolderTokenizer(tmp_path).encode(text) == FolderTokenizer(tiny_folder).encode(text)
    assert not (tmp_path / "download").exists()


def test_a_folder_is_imported_as_it_is(tiny_folder: Path, tmp_path: Path) -> None:
    run("import_model", tmp_path, source=str(tiny_folder))
    assert (tmp_path / "model.safetensors").read_bytes() == (tiny_folder / "model.safetensors").read_bytes()
    assert (tmp_path / "chat_template.jinja").is_file()


def test_a_tokenizer_that_differs_from_llama_cpps_stops_the_import(
    tiny_folder: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    tokenizer = json.loads((tiny_folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:50]
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(
        RunError, match=r"differs from llama\.cpp's on [\d,]+ of (?s:.*)first: (?s:.*)fix:   use another"
    ):
        _compare_tokenizers(tmp_path, tiny_gguf)


def test_a_local_model_counts_by_its_bytes_a_remote_one_by_its_name(tiny_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.gguf").write_bytes(tiny_gguf.read_bytes())
    same = [identity("import_model", source_of(str(path)), {}) for path in (tiny_gguf, tmp_path / "copy.gguf")]
    assert same[0] == same[1]
    remote = {identity("import_model", source_of(s), {}) for s in ("pip:a==1", "pip:a==2", "org/name", "org/name@main")}
    assert len(remote) == 4


@pytest.mark.parametrize("source", ["no/such/folder", "no.gguf", "name"])
def test_a_model_that_is_nowhere_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"import_model\.source: no such model: .*\n    fix: give"):
        source_of(source)


@pytest.mark.parametrize("sha256", ["abc", "A" * 64, "g" * 64])
def test_a_hash_has_64_hex_digits(tiny_gguf: Path, sha256: str) -> None:
    with pytest.raises(ValueError, match=r"import_model\.sha256: string should match pattern"):
        lone_step("import_model", [f"source={tiny_gguf}", f"sha256={sha256}"], roles=[])


def test_quantize_writes_levels_and_f16_says_what_the_model_says(tiny_folder: Path, tmp_path: Path) -> None:
    figures = run("quantize", tmp_path, {"model": tiny_folder}, levels=["f16", "q8_0"])
    assert [row["level"] for row in figures["levels"]] == ["f16", "q8_0"]
    assert all((tmp_path / row["file"]).stat().st_size == row["file_bytes"] for row in figures["levels"])
    assert figures["mean_kl"] < 1e-3


def test_an_unknown_level_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="q9_9"):
        run("quantize", tmp_path, {"model": tiny_folder}, levels=["q9_9"])


def test_answers_are_those_of_the_model_and_are_counted(tmp_path: Path) -> None:
    rows = make_rows(6, num_turns=2)
    write_rows(rows, tmp_path / "data")
    script = write_lines(tmp_path / "script.jsonl", [{"ask": None, "answer": "你好，我是白话。"}])
    figures = run("answer", tmp_path / "out", {"model": script, "data": tmp_path / "data"}, num_questions=4)
    assert (figures["num_answers"], figures["num_mainly_chinese"], figures["num_stopped"]) == (4, 4, 4)
    answers = pq.read_table(tmp_path / "out" / "answers.parquet").to_pylist()
    assert {answer["answer"] for answer in answers} == {"你好，我是白话。"}
    assert {len(answer["messages"]) for answer in answers} == {3}


@pytest.mark.parametrize(
    ("seconds", "num_tokens", "speed"),
    [
        (2.0, 4, {"chars_per_second": 1.0, "tokens_per_second": 2.0}),
        (2.0, None, {"chars_per_second": 1.0}),
        (0.0, 4, {}),
    ],
)
def test_a_speed_that_cannot_be_computed_is_missing(
    seconds: float, num_tokens: int | None, speed: dict[str, float]
) -> None:
    assert _speed([{"answer": "你好", "seconds": seconds, "num_answer_tokens": num_tokens}]) == speed


def test_a_label_names_the_column_but_not_the_identity() -> None:
    config = kinds.find("baihua.stages", "answer").Config
    assert identity("answer", config(label="a"), {}) == identity("answer", config(label="b"), {})


def test_the_stage_alone_publishes_an_artifact(tiny_folder: Path, tmp_path: Path) -> None:
    artifact = run_into("import_model", source_of(str(tiny_folder)), {}, tmp_path / "out")
    assert artifact.manifest["stage"] == "import_model"
