"""The files next to GGUF files: Modelfile, README, checksums."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from baihua.compress.card import (
    ModelOrigin,
    read_origin,
    write_card,
    write_checksums,
    write_modelfile,
)

ROWS: list[dict[str, Any]] = [
    {"level": "f16", "file": "model-f16.gguf", "file_bytes": 2_000_000, "bits_per_weight": 16.0},
    {"level": "q4_k_m", "file": "model-q4_k_m.gguf", "file_bytes": 600_000, "bits_per_weight": 4.83},
]
ORIGIN = ModelOrigin(
    base_model="org/base@1",
    sources={"对话": "CC0-1.0", "b": None},
    steps=["quantize 0123456789abcdef", "import_model fedcba9876543210 org/base@1"],
)


def card(folder: Path, rows: list[dict[str, Any]] = ROWS, origin: ModelOrigin = ORIGIN) -> str:
    """The text of a card."""
    write_card(folder, name="小白", rows=rows, origin=origin)
    return (folder / "README.md").read_text(encoding="utf-8")


def write_manifest(folder: Path, *, stage: str, number: str, **values: Any) -> str:
    """A published artifact without files; its id."""
    folder.mkdir(parents=True, exist_ok=True)
    usual: dict[str, Any] = {"schema": 1, "id": number * 64, "stage": stage, "config": {}, "inputs": {}, "metrics": {}}
    (folder / "manifest.json").write_text(json.dumps(usual | values), encoding="utf-8")
    return number * 64


def test_ollama_gets_the_file_and_every_stop_token(tmp_path: Path) -> None:
    write_modelfile(tmp_path, "model-q8_0.gguf", ["<|im_end|>", '停"'])
    text = (tmp_path / "Modelfile").read_bytes()
    assert text.decode("utf-8") == 'FROM ./model-q8_0.gguf\nPARAMETER stop "<|im_end|>"\nPARAMETER stop "停\\""\n'


def test_the_front_matter_is_yaml_with_what_is_known(tmp_path: Path) -> None:
    found = yaml.safe_load(card(tmp_path).split("---\n")[1])
    assert found["language"] == ["zh", "en"]
    assert found["base_model"] == "org/base@1"


def test_what_is_not_known_is_not_claimed(tmp_path: Path) -> None:
    text = card(tmp_path, origin=ModelOrigin())
    found = yaml.safe_load(text.split("---\n")[1])
    assert "license" not in found and "base_model" not in found
    assert "base model: not recorded" in text and "steps" not in text


def table_cells(text: str) -> list[list[str]]:
    """The cells of each line of a text's Markdown tables."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_the_table_lists_every_level(tmp_path: Path) -> None:
    head, _, *rows = table_cells(card(tmp_path))
    assert head == ["level", "file", "MB", "bits per weight"]
    assert rows == [["f16", "model-f16.gguf", "2.0", "16.00"], ["q4_k_m", "model-q4_k_m.gguf", "0.6", "4.83"]]


def test_the_smallest_file_is_the_one_to_run(tmp_path: Path) -> None:
    text = card(tmp_path)
    assert "baihua chat model-q4_k_m.gguf" in text and "llama-cli -m model-q4_k_m.gguf" in text
    assert "ollama create" in text


def test_data_licences_and_steps_are_listed(tmp_path: Path) -> None:
    text = card(tmp_path)
    assert "- data: 对话, licence: CC0-1.0" in text and "- data: b, licence: not stated" in text
    assert "2. import_model fedcba9876543210 org/base@1" in text


def test_the_same_origin_give_the_same_bytes(tmp_path: Path) -> None:
    assert card(tmp_path) == card(tmp_path)


def test_origin_come_from_the_manifests_behind_a_model(tmp_path: Path) -> None:
    base = write_manifest(
        tmp_path / f"import_model-{'a' * 16}", stage="import_model", number="a", config={"source": "pip:b==1"}
    )
    model = tmp_path / f"merge-{'b' * 16}"
    inputs = {"model": {"id": base, "name": "base"}, "again": {"id": base, "name": "base"}}
    write_manifest(model, stage="merge", number="b", inputs=inputs, sources={"starter": "CC0-1.0"})
    found = read_origin(model)
    assert (found.base_model, found.sources) == ("pip:b==1", {"starter": "CC0-1.0"})
    assert found.steps == [f"merge {'b' * 16}", f"import_model {'a' * 16} pip:b==1"]
    assert read_origin(tmp_path) == ModelOrigin()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_sha256sum_agrees_with_the_checksums(tmp_path: Path) -> None:
    for name in ("b.gguf", "中文.txt", "a/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    write_checksums(tmp_path)
    write_checksums(tmp_path)
    lines = (tmp_path / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    assert [line.split("  ")[1] for line in lines] == ["a/c", "b.gguf", "中文.txt"]
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0
