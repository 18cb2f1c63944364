"""Files next to GGUF files: a Modelfile for Ollama, a model card with the table of levels, and checksums."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from baihua.core.artifact import find_artifact, hash_file
from baihua.core.files import write_text
from baihua.core.run import lineage
from baihua.core.tables import Column, figures_table, render_markdown
from baihua.modelfiles.special_tokens import end_texts

Row = Mapping[str, Any]
CHECKSUMS = "SHA256SUMS"
COLUMNS: Sequence[Column] = (
    ("level", "level", ""),
    ("file", "file", ""),
    ("MB", "file_bytes", "MB"),
    ("bits per weight", "bits_per_weight", ".2f"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOrigin:
    """The known origin of a model; unknown facts stay out of its card."""

    base_model: str | None = None
    """Source of the base model, such as a hub id."""
    sources: Mapping[str, str | None] = field(default_factory=dict)
    """Licence of each source of training data; None where none was stated."""
    steps: Sequence[str] = ()
    """The stages that made it, the last one first."""


def write_companions(folder: Path, model: Path, rows: Sequence[Row]) -> None:
    """Write Modelfile, README.md and SHA256SUMS for GGUF files made from `model`; a row of figures for each file."""
    origin = read_origin(model)
    write_modelfile(folder, min(rows, key=lambda row: row["file_bytes"])["file"], end_texts(model))
    write_card(folder, name=origin.base_model or model.resolve().stem, rows=rows, origin=origin)
    write_checksums(folder)


def read_origin(model: Path) -> ModelOrigin:
    """The origin of a model by the manifests behind it; empty for a model outside any artifact."""
    artifact = find_artifact(model)
    if artifact is None:
        return ModelOrigin()
    nodes = list(_flatten(lineage(artifact)))
    base = next((node["content"] for node in nodes if node["stage"] == "import_model" and node["content"]), None)
    steps = [" ".join(filter(None, (node["stage"], node["id"][:16], node["content"]))) for node in nodes]
    return ModelOrigin(base_model=base, sources=artifact.sources, steps=steps)


def write_modelfile(folder: Path, file_name: str, end_tokens: Sequence[str]) -> None:
    """Write FROM and the stop tokens; Ollama takes the chat template from the GGUF file itself."""
    stops = [f"PARAMETER stop {json.dumps(token, ensure_ascii=False)}" for token in end_tokens]
    _write_lines(folder / "Modelfile", [f"FROM ./{file_name}", *stops])


def write_card(folder: Path, *, name: str, rows: Sequence[Row], origin: ModelOrigin) -> None:
    """Write README.md for a folder of GGUF files: the levels, how to run them, and their origin."""
    smallest = min(rows, key=lambda row: row["file_bytes"])["file"]
    base = f", made from `{origin.base_model}`" if origin.base_model else ""
    lines = ["---", "language:", "- zh", "- en", "pipeline_tag: text-generation", "tags:", "- gguf", "- baihua"]
    # A JSON string is a YAML string, whatever it contains.
    lines += [f"base_model: {json.dumps(origin.base_model, ensure_ascii=False)}"] if origin.base_model else []
    lines += ["---", "", f"# {name}", ""]
    lines += [f"A chat model for Chinese and English{base}, as GGUF files for llama.cpp and programs built on it.", ""]
    lines += ["## Levels", "", render_markdown(figures_table(COLUMNS, rows))]
    lines += ["## How to run it", "", "```sh", f"baihua chat {smallest}", f"llama-cli -m {smallest} --jinja -cnv"]
    lines += ["ollama create my-model -f Modelfile && ollama run my-model", f"sha256sum --check {CHECKSUMS}", "```", ""]
    lines += ["The files contain the chat template and the tokens that end an answer.", ""]
    lines += ["## Origin", "", f"- base model: {origin.base_model or 'not recorded'}"]
    lines += ["- licence of the weights: not recorded; the licence of the base model applies"]
    lines += [f"- data: {name}, licence: {licence or 'not stated'}" for name, licence in sorted(origin.sources.items())]
    if origin.steps:
        lines += ["", "Made by these steps, the last one first:", ""]
        lines += [f"{number}. {step}" for number, step in enumerate(origin.steps, 1)]
    _write_lines(folder / "README.md", lines)


def write_checksums(folder: Path) -> None:
    """Write SHA256SUMS of every other file in a folder, as `sha256sum --check SHA256SUMS` reads it."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != CHECKSUMS)
    _write_lines(folder / CHECKSUMS, [f"{hash_file(file)}  {file.relative_to(folder).as_posix()}" for file in files])


def _flatten(node: Row) -> Iterator[Row]:
    """An artifact and everything behind it, each once, breadth first."""
    waiting, seen = [node], set[str]()
    while waiting:
        found = waiting.pop(0)
        if found["id"] not in seen:
            seen.add(found["id"])
            yield found
            waiting += found["inputs"].values()


def _write_lines(file: Path, lines: Sequence[str]) -> None:
    write_text(file, "\n".join(lines) + "\n")
