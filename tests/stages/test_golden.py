"""What a stage writes changes only together with its VERSION.

When a test here fails: if the change is meant, raise the stage's VERSION and put the new pair down.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from data_stages import import_files, run_stage
from fakes import talk, write_lines
from safetensors.numpy import load_file

from baihua.core import kinds
from baihua.core.artifact import hash_file, hash_json
from baihua.core.stage import STAGES
from baihua.data.rows import read_rows

ROWS = [talk(f"问题{n}", f"回答{n}", group=f"g{n % 7}") for n in range(20)]
GOLDEN = {
    "import_data": (2, "be6a5686edd1b877"),
    "clean": (1, "a376639058028cde"),
    "mix": (1, "5b9daf4671f7d7ba"),
    "subset": (1, "8668daa3aa3f435e"),
    "identity": (1, "8d8ebeadc3a831fb"),
    "inspect": (1, "20db784006b20533"),
    "split": (1, "607d0486ed2377c1"),
    "import_model": (2, "08354e308a8feb3a"),
    "tune": (2, [6.12, 5.85, 5.64]),
    "merge": (2, "ff372e4674f7db00"),
    "quantize": (2, "b4ce2af7ca856069"),
    "bits": (1, 16.4),
    "answer": (1, "b1a6d72188f5ef76"),
}


def imported(folder: Path) -> Path:
    stage = kinds.find(STAGES, "import_data")
    file = write_lines(folder / "talks.jsonl", [*ROWS, "{"])
    stage.run(stage.Config(files=[str(file)], bad_rows="drop"), {}, folder)
    return folder


def figure(kind: str, *folders: Path) -> tuple[int, str]:
    rows = [[asdict(row) for row in read_rows(folder)] for folder in folders]
    return kinds.find(STAGES, kind).VERSION, hash_json(rows)[:16]


def run(kind: str, out: Path, inputs: dict[str, Path], **fields: Any) -> Any:
    """Run a stage; its version and figures."""
    stage = kinds.find(STAGES, kind)
    out.mkdir()
    return stage.VERSION, stage.run(stage.Config.model_validate(fields), inputs, out)


def test_import_data_writes_what_its_version_writes(tmp_path: Path) -> None:
    assert figure("import_data", imported(tmp_path)) == GOLDEN["import_data"]


def test_clean_writes_what_its_version_writes(tiny_folder: Path, tmp_path: Path) -> None:
    filters: list[dict[str, Any]] = [
        {"kind": "width"},
        {"kind": "length", "minimum_chars": 6},
        {"kind": "column", "name": "score", "minimum": 3, "missing": "keep"},
        {"kind": "split_long", "maximum_tokens": 60},
        {"kind": "near_duplicate", "ngram": 2, "threshold": 0.8},
    ]
    rows = [*ROWS, talk("你好,世界!", "ＡＢＣ", group="g1"), talk("第一问", "第一答" * 9, "第二问", "第二答" * 9)]
    data = import_files(tmp_path, write_lines(tmp_path / "rows.jsonl", rows)).folder
    made = run_stage("clean", tmp_path / "2", {"data": data, "model": tiny_folder}, filters=filters)
    written = [[asdict(row) for row in made.rows], made.dropped]
    assert (kinds.find(STAGES, "clean").VERSION, hash_json(written)[:16]) == GOLDEN["clean"]


def test_subset_writes_what_its_version_writes(tmp_path: Path) -> None:
    run("subset", tmp_path / "out", {"data": imported(tmp_path)}, num_rows=7, seed=7, by="source")
    assert figure("subset", tmp_path / "out") == GOLDEN["subset"]


def test_identity_and_mix_write_what_their_versions_write(tmp_path: Path) -> None:
    run("identity", tmp_path / "identity", {}, name="白话", maker="白话小组", seed=7)
    assert figure("identity", tmp_path / "identity") == GOLDEN["identity"]
    inputs = {"data": imported(tmp_path), "data_2": tmp_path / "identity"}
    run("mix", tmp_path / "mixed", inputs, weights={"data": 1, "data_2": 3}, num_rows=100, repeat=True, seed=7)
    assert figure("mix", tmp_path / "mixed") == GOLDEN["mix"]


def test_inspect_counts_what_its_version_counts(tmp_path: Path) -> None:
    version, _ = run("inspect", tmp_path / "out", {"data": imported(tmp_path)}, num_topics=2)
    # Topics come from floating-point sums, which differ between processors.
    figures = json.loads((tmp_path / "out" / "figures.json").read_text(encoding="utf-8"))
    assert (version, hash_json(figures)[:16]) == GOLDEN["inspect"]


def test_split_writes_what_its_version_writes(tmp_path: Path) -> None:
    stage = kinds.find(STAGES, "split")
    stage.run(stage.Config(heldout_share=0.3, seed=7), {"data": imported(tmp_path)}, tmp_path / "out")
    assert figure("split", tmp_path / "out" / "train", tmp_path / "out" / "heldout") == GOLDEN["split"]


def test_import_model_writes_what_its_version_writes(tiny_gguf: Path, tmp_path: Path) -> None:
    version, _ = run("import_model", tmp_path / "out", {}, source=str(tiny_gguf))
    files = ("model.safetensors", "tokenizer.json", "chat_template.jinja")
    assert (version, hash_json([hash_file(tmp_path / "out" / name) for name in files])[:16]) == GOLDEN["import_model"]


def test_tune_learns_what_its_version_learns(tiny_folder: Path, tmp_path: Path) -> None:
    inputs = {"model": tiny_folder, "data": imported(tmp_path)}
    version, _ = run(
        *("tune", tmp_path / "out", inputs),
        **{"max_steps": 3, "precision": "float32", "learning_rate": 0.01, "examples": {"num_shown": 0}},
    )
    lines = (tmp_path / "out" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    # Two decimals: other processors add up in another order.
    assert (version, [round(json.loads(line)["loss"], 2) for line in lines]) == GOLDEN["tune"]


def test_merge_writes_what_its_version_writes(tiny_folder: Path, tmp_path: Path) -> None:
    inputs = {"model": tiny_folder, "data": imported(tmp_path)}
    run("tune", tmp_path / "adapter", inputs, max_steps=1, precision="float32", learning_rate=1e-12)
    version, _ = run("merge", tmp_path / "out", {"model": tiny_folder, "adapter": tmp_path / "adapter"})
    # An adapter that was hardly trained changes no weight in its first digits.
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert (
        version,
        hash_json({name: [str(tensor.dtype), *tensor.shape] for name, tensor in weights.items()})[:16],
    ) == GOLDEN["merge"]


def test_quantize_writes_what_its_version_writes(tiny_folder: Path, tmp_path: Path) -> None:
    version, _ = run("quantize", tmp_path / "out", {"model": tiny_folder}, levels=["q8_0"])
    assert (version, hash_file(tmp_path / "out" / "model-q8_0.gguf")[:16]) == GOLDEN["quantize"]


def test_bits_measures_what_its_version_measures(tiny_folder: Path, tmp_path: Path) -> None:
    version, figures = run("bits", tmp_path / "out", {"model": tiny_folder, "data": imported(tmp_path)})
    assert (version, round(figures["bits_per_char"], 2)) == GOLDEN["bits"]


def test_answer_asks_what_its_version_asks(tiny_folder: Path, tmp_path: Path) -> None:
    inputs = {"model": tiny_folder, "data": imported(tmp_path)}
    version, _ = run("answer", tmp_path / "out", inputs, num_questions=5, max_tokens=1)
    answers = pq.read_table(tmp_path / "out" / "answers.parquet")
    asked = answers.select(["question_id", "category", "sample", "messages", "num_prompt_tokens"]).to_pylist()
    assert (version, hash_json(asked)[:16]) == GOLDEN["answer"]
