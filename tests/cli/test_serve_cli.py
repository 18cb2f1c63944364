"""What `baihua serve` makes of its arguments, and how a model becomes a GGUF file once."""

import json
from pathlib import Path

import few_steps
import pytest
from cli_runs import run_here

from baihua.cli.models import as_gguf, named_models
from baihua.cli.verbs.serve import EngineName, _split, open_model
from baihua.core.errors import InputError
from baihua.core.run import given_path
from baihua.core.stage import find_stage, run_stage
from baihua.serve.engines.cluster import ReplicaSettings
from baihua.serve.web.server import read_key

ASK = {"messages": [{"role": "user", "content": "你好 <|im_end|>"}]}


def test_a_folder_is_exported_once(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = as_gguf(tiny_folder, tmp_path, level="q8_0")
    assert first.name == "model-q8_0.gguf"
    assert "exported" in capsys.readouterr().err
    changed = first.stat().st_mtime_ns
    assert as_gguf(tiny_folder, tmp_path, level="q8_0") == first
    assert first.stat().st_mtime_ns == changed
    assert as_gguf(first, tmp_path, level="q4_0") == first


def test_an_adapter_of_the_store_is_merged_into_its_base(tiny_folder: Path, tmp_path: Path) -> None:
    config = find_stage("import_model").Config(source=str(tiny_folder))
    base = run_stage("import_model", config, {}, tmp_path / "store").artifact.folder
    adapter = few_steps.save("lora", few_steps.prepare("lora", base, rank=2), tmp_path / "adapter", base=base)
    manifest = {"inputs": {"model": {"id": given_path(base).id}}}
    with pytest.raises(InputError, match=r"base model of this adapter is not in the store.*\n.*\n.*baihua do merge"):
        as_gguf(adapter, tmp_path, level="f16")
    written = json.loads((base / "manifest.json").read_text()) | manifest
    (adapter / "manifest.json").write_text(json.dumps(written))
    assert as_gguf(adapter, tmp_path, level="f16").name == "model-f16.gguf"
    assert list((tmp_path / "store").glob("merge-*"))


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a model"):
        as_gguf(tmp_path, tmp_path, level="f16")


def test_models_have_names(tmp_path: Path) -> None:
    assert named_models(["a=x/y.gguf", "z/model-q4_0.gguf"], tmp_path) == {
        "a": "x/y.gguf",
        "model-q4_0": "z/model-q4_0.gguf",
    }
    assert named_models(["http://x/v1?a=b", "c=http://y"], tmp_path) == {"v1?a=b": "http://x/v1?a=b", "c": "http://y"}
    with pytest.raises(InputError, match=r"two models would have the name 'y'.*\n.*\n.*NAME=MODEL"):
        named_models(["x/y.gguf", "z/y.gguf"], tmp_path)


@pytest.mark.parametrize("wrong", ["poet", "=folder", "poet="])
def test_adapters_need_names(wrong: str) -> None:
    assert _split(["poet=x", "cook=y"]) == {"poet": Path("x"), "cook": Path("y")}
    with pytest.raises(InputError, match="each adapter needs its own name"):
        _split([wrong])


def test_the_key_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("secret-1\n")
    assert read_key(file, {}, host="0.0.0.0") == "secret-1"
    assert read_key(None, {"BAIHUA_API_KEY": "secret-2"}, host="0.0.0.0") == "secret-2"
    assert read_key(None, {}, host="127.0.0.1") is None
    with pytest.raises(InputError, match=r"listening beyond this machine requires an API key.*\n.*--host 0\.0\.0\.0"):
        read_key(None, {}, host="0.0.0.0")
    file.write_text(" \n")
    with pytest.raises(InputError, match="the key file is empty"):
        read_key(file, {}, host="127.0.0.1")
    file.write_text("钥匙")
    with pytest.raises(InputError, match="an API key must be printable ASCII"):
        read_key(file, {}, host="127.0.0.1")
    with pytest.raises(InputError, match="cannot read the API key"):
        read_key(tmp_path / "none", {}, host="127.0.0.1")


def test_the_prompt_is_shown(
    tiny_folder: Path, tiny_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ask.jsonl"
    file.write_text(json.dumps(ASK) + "\n")
    shown = [
        run_here(capsys, "show", str(model), "--prompt", str(file), "--json") for model in (tiny_folder, tiny_gguf)
    ]
    of_folder, of_file = (found.json["prompts"][0] for found in shown)
    assert of_folder == of_file
    assert of_folder["prompt"].endswith("<|im_start|>assistant\n")
    assert of_folder["num_tokens"] == len(of_folder["ids"])
    plain = run_here(capsys, "show", str(tiny_gguf), "--prompt", str(file))
    assert (plain.status, plain.out.splitlines()[0]) == (0, f"{of_folder['num_tokens']} tokens")
    assert "你好 <|im_end|>" in plain.out


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": []}, "not a conversation: expected a list of turns under 'messages'; found []"),
        (
            {"messages": [{"role": "tool", "content": ""}]},
            "not a conversation: a turn of 'tool': conversations with tools",
        ),
    ],
)
def test_a_row_without_a_conversation_is_refused(
    row: dict[str, object], message: str, tiny_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ask.jsonl").write_text(json.dumps(row) + "\n")
    found = run_here(capsys, "show", str(tiny_gguf), "--prompt", str(tmp_path / "ask.jsonl"))
    assert found.status == 2
    assert message in found.errors()[0]


def test_an_engine_that_switches_no_adapters_says_so(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["serve", str(tiny_folder), "--engine", "transformers", "--adapter", "a=b", "--port", "0"]
    found = run_here(capsys, *words, "--runs", str(tmp_path))
    assert found.status == 2
    assert "transformers cannot switch adapters" in found.errors()[0]


@pytest.mark.parametrize("engine", [EngineName.transformers, EngineName.vllm])
def test_replicas_run_llama_cpp_alone(engine: EngineName, tmp_path: Path) -> None:
    sizes = {"num_slots": 1, "num_ctx": 64, "num_threads": 1}
    replicas = ReplicaSettings(num_replicas=2)
    with pytest.raises(InputError, match=f"replicas run llama.cpp, not {engine}"):
        open_model(tmp_path, tmp_path, engine, level="q8_0", adapters={}, replicas=replicas, **sizes)
