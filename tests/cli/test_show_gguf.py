"""`baihua show FILE.gguf` says what the file says, and what made it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_runs import run_apart, run_here
from gguf import GGUFReader, GGUFWriter

from baihua.modelfiles.gguf_header import read_header

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A file that is no model: Chinese values, a half character, a terminal escape."""
    file = tmp_path / "odd.gguf"
    writer = GGUFWriter(file, "llama")
    writer.add_name("白话 😀")
    writer.add_string("general.description", "一" * 200)
    writer.add_string("baihua.recipe", "first\x1b[2J")
    writer.add_array("tokenizer.ggml.tokens", [b"\xe4\xbd", b"b", b"c", b"d"])
    writer.add_tensor("a.weight", np.ones((2, 3), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_metadata_and_tensors_are_those_that_gguf_reads(tiny_gguf: Path, capsys: Capture) -> None:
    found = run_here(capsys, "show", str(tiny_gguf), "--json", "--rows", "1000").json
    reader = GGUFReader(tiny_gguf)
    own = {name for name in reader.fields if not name.startswith("GGUF.")}
    assert set(found["metadata"]) == own
    assert [tensor["name"] for tensor in found["tensors"]] == [tensor.name for tensor in reader.tensors]
    assert [tensor["shape"] for tensor in found["tensors"]] == [tensor.shape.tolist() for tensor in reader.tensors]
    assert found["num_weights"] == sum(int(tensor.n_elements) for tensor in reader.tensors)
    assert found["metadata"]["tokenizer.ggml.tokens"] == {
        "num_items": 512,
        "first": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    }


def test_types_add_up_to_all_tensors(tiny_gguf: Path, capsys: Capture) -> None:
    (row,) = run_here(capsys, "show", str(tiny_gguf), "--json").json["types"]
    tensors = read_header(tiny_gguf).tensors
    assert row == {
        "type": "F32",
        "num_tensors": len(tensors),
        "num_bytes": sum(tensor.num_bytes for tensor in tensors),
        "bits_per_weight": 32.0,
    }


def test_long_values_are_cut_until_rows_are_asked_for(odd: Path, capsys: Capture) -> None:
    short = run_here(capsys, "show", str(odd)).out
    assert "一" * 40 in short and "一" * 60 not in short and "…" in short
    assert "(4 items)" in short and "a.weight" not in short
    full = run_here(capsys, "show", str(odd), "--rows", "1").out
    assert "一" * 200 in full
    assert "| a.weight | F32" in full and "3 x 2" in full


def test_nothing_of_a_file_reaches_the_terminal_raw(odd: Path, tmp_path: Path) -> None:
    found = run_apart("show", str(odd), cwd=tmp_path)
    assert found.status == 0 and "白话 😀" in found.out
    assert "\x1b" not in found.out and "first\\x1b[2J" in found.out
    shown = run_apart("show", str(odd), "--json", cwd=tmp_path).json
    assert shown["metadata"]["tokenizer.ggml.tokens"]["first"][1:] == ["b", "c"]


def test_without_a_manifest_the_file_speaks_for_itself(odd: Path, capsys: Capture) -> None:
    found = run_here(capsys, "show", str(odd), "--json").json
    assert found["lineage"] is None
    assert found["origin"]["baihua.recipe"].startswith("first")
    assert "no manifest with it" in run_here(capsys, "show", str(odd)).out


def test_a_manifest_beside_it_says_what_made_it(tiny_gguf: Path, tmp_path: Path, capsys: Capture) -> None:
    file = Path(shutil.copy(tiny_gguf, tmp_path / "model-f32.gguf"))
    manifest = {"schema": 1, "id": "c" * 64, "stage": "quantize", "config": {}, "metrics": {}}
    manifest["inputs"] = {"model": {"id": "d" * 64, "name": "base"}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    found = run_here(capsys, "show", str(file), "--json").json
    assert found["lineage"]["stage"] == "quantize" and found["origin"] == {}
    lines = run_here(capsys, "show", str(file)).out.splitlines()
    assert lines[-2:] == [f"quantize {'c' * 16}", f"  model: file {'d' * 16}  [base]"]


def test_a_file_that_is_missing_or_something_else_is_refused(tmp_path: Path, capsys: Capture) -> None:
    what, where, fix = run_here(capsys, "show", str(tmp_path / "no.gguf")).errors()
    assert what == "error: no such model file" and "no.gguf" in where and ".gguf" in fix
    (tmp_path / "text.gguf").write_text("hello", encoding="utf-8")
    assert "not a GGUF file" in run_here(capsys, "show", str(tmp_path / "text.gguf")).errors()[0]
