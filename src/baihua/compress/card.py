"""What lies beside GGUF files: a Modelfile for Ollama, a README with the table of levels, and checksums."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from baihua.core.artifact import find_artifact, hash_file
from baihua.core.files import write_text
from baihua.core.run import lineage
from baihua.core.tables import figures_table, render_markdown
from baihua.modelfiles.gguf_header import read_header

CHECKSUMS = "SHA256SUMS"
# Ids of a GGUF file's metadata at which an answer ends.
END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")
# Heading, key of a row and format; only columns that some row has are printed.
COLUMNS = (
    ("level", "level", ""),
    ("file", "file", ""),
    ("MB", "file_bytes", "MB"),
    ("bits per weight", "bits_per_weight", ".2f"),
    ("KL to the reference, Chinese", "mean_kl_zh", ".2g"),
    ("KL, English", "mean_kl_en", ".2g"),
    ("same top token, Chinese", "same_top_share_zh", ".1%"),
    ("same top token, English", "same_top_share_en", ".1%"),
    ("bits per character, Chinese", "bits_per_char_zh", ".3f"),
    ("bits per character, English", "bits_per_char_en", ".3f"),
    ("tokens/s", "tokens_per_second", ".1f"),
    ("characters/s", "chars_per_second", ".1f"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What is known about a model's origin; what is not known stays out of its card."""

    base_model: str | None = None
    """Where the base model came from, such as a hub id."""
    licence: str | None = None
    """Of the weights, as the Hugging Face hub names it."""
    sources: Mapping[str, str | None] = field(default_factory=dict)
    """Licence of each source of training data; None where none was stated."""
    steps: Sequence[str] = ()
    """What made it, the last step first."""
    notes: str = ""
    """Markdown for the section after the table, such as the measured damage."""


def read_facts(model: Path) -> CardFacts:
    """Facts from the manifests behind a model; empty for a model that no artifact of ours holds."""
    artifact = find_artifact(model)
    if artifact is None:
        return CardFacts()
    nodes = list(_walk(lineage(artifact)))
    bases = [node["content"] for node in nodes if node["stage"] == "import_model" and node["content"]]
    return CardFacts(
        base_model=bases[0] if bases else None,
        sources=artifact.sources,
        steps=[" ".join(filter(None, (node["stage"], node["id"][:16], node["content"]))) for node in nodes],
    )


def write_modelfile(folder: Path, file_name: str, end_tokens: Sequence[str]) -> None:
    """FROM and the stop tokens; Ollama takes the chat template from the file itself."""
    stops = [f"PARAMETER stop {json.dumps(token, ensure_ascii=False)}" for token in end_tokens]
    _write(folder / "Modelfile", [f"FROM ./{file_name}", *stops])


def end_tokens(model: Path) -> list[str]:
    """Tokens at which an answer of a model folder or of a .gguf file ends."""
    if model.is_file():
        values = read_header(model).values
        tokens, ids = values.get("tokenizer.ggml.tokens"), [values.get(f"tokenizer.ggml.{key}") for key in END_KEYS]
        listed = tokens if isinstance(tokens, list) else []
        return list(dict.fromkeys(str(listed[i]) for i in ids if isinstance(i, int) and 0 <= i < len(listed)))
    token = _read(model / "tokenizer_config.json").get("eos_token")
    names = [token.get("content") if isinstance(token, dict) else token]
    ends = _read(model / "generation_config.json").get("eos_token_id") or []
    added = {t["id"]: t["content"] for t in _read(model / "tokenizer.json").get("added_tokens", [])}
    names += [added.get(end) for end in (ends if isinstance(ends, list) else [ends])]
    return [name for name in dict.fromkeys(names) if name]


def write_card(folder: Path, *, name: str, rows: Sequence[Mapping[str, Any]], facts: CardFacts) -> None:
    """README.md for a folder of GGUF files; `rows` have the keys of the stages `quantize` and `damage`."""
    lines = [*_front_matter(facts), "", f"# {name}", "", *_opening(facts), "", *_table(rows)]
    lines += ["", facts.notes.strip()] if facts.notes.strip() else []
    _write(folder / "README.md", [*lines, "", *_usage(rows), "", *_origin(facts)])


def write_checksums(folder: Path) -> None:
    """SHA256SUMS of every other file of a folder, as `sha256sum --check SHA256SUMS` reads it."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != CHECKSUMS)
    _write(folder / CHECKSUMS, [f"{hash_file(file)}  {file.relative_to(folder).as_posix()}" for file in files])


def _front_matter(facts: CardFacts) -> list[str]:
    lines = ["---", "language:", "- zh", "- en", "pipeline_tag: text-generation", "tags:", "- gguf", "- baihua"]
    # A JSON string is a YAML string, whatever it contains.
    lines += [f"base_model: {json.dumps(facts.base_model, ensure_ascii=False)}"] if facts.base_model else []
    lines += [f"license: {json.dumps(facts.licence, ensure_ascii=False)}"] if facts.licence else []
    return [*lines, "---"]


def _opening(facts: CardFacts) -> list[str]:
    base = f" made from `{facts.base_model}`" if facts.base_model else ""
    return [f"A chat model for Chinese and English{base}, as GGUF files for llama.cpp and what is built on it."]


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = [column for column in COLUMNS if any(column[1] in row for row in rows)]
    return ["## Levels", "", *render_markdown(figures_table(columns, rows)).splitlines()] if columns else []


def _usage(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    files = [row for row in rows if "file" in row and "file_bytes" in row]
    smallest = min(files, key=lambda row: row["file_bytes"])["file"] if files else "model.gguf"
    return [
        "## How to run it",
        "",
        "```sh",
        f"baihua chat {smallest}",
        f"llama-cli -m {smallest} --jinja -cnv",
        "ollama create my-model -f Modelfile && ollama run my-model",
        f"sha256sum --check {CHECKSUMS}",
        "```",
        "",
        "The chat template and the tokens that end an answer are inside the files.",
    ]


def _origin(facts: CardFacts) -> list[str]:
    lines = ["## Where it comes from", "", f"- base model: {facts.base_model or 'not recorded'}"]
    lines.append(f"- licence of the weights: {facts.licence or 'not recorded here; that of the base model binds'}")
    lines += [f"- data: {name}, licence: {facts.sources[name] or 'not stated'}" for name in sorted(facts.sources)]
    steps = [f"{number}. {step}" for number, step in enumerate(facts.steps, 1)]
    return [*lines, "", "What made it, the last step first:", "", *steps] if steps else lines


def _walk(node: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """An artifact and everything behind it, each once."""
    waiting, seen = [node], set[str]()
    while waiting:
        found = waiting.pop(0)
        if found["id"] not in seen:
            seen.add(found["id"])
            yield found
            waiting += found["inputs"].values()


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _write(file: Path, lines: Sequence[str]) -> None:
    write_text(file, "\n".join(lines) + "\n")
