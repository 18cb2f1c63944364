"""GGUF files of several levels, and the Modelfile that lets Ollama run them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from baihua.compress.gguf import check_level, write_gguf

Row = dict[str, str | int | float]


def quantize(model_folder: Path, out: Path, levels: Sequence[str]) -> list[Row]:
    """Write `model-LEVEL.gguf` for each level, and a Modelfile for the smallest; one row per level, as asked."""
    for level in levels:
        check_level(level)
    out.mkdir(parents=True, exist_ok=True)
    rows = [_write(model_folder, out, level) for level in dict.fromkeys(levels)]
    if rows:
        smallest = min(rows, key=lambda row: row["file_bytes"])
        (out / "Modelfile").write_text(_modelfile(str(smallest["file"]), model_folder), encoding="utf-8")
    return rows


def _write(model_folder: Path, out: Path, level: str) -> Row:
    file = out / f"model-{level}.gguf"
    facts = write_gguf(model_folder, file, level=level)
    return {
        "level": level,
        "file": file.name,
        "file_bytes": facts.file_bytes,
        "bits_per_weight": round(facts.bits_per_weight, 4),
    }


def _modelfile(file_name: str, model_folder: Path) -> str:
    """FROM and the stop tokens; Ollama takes the chat template from the file itself."""
    lines = [f"FROM ./{file_name}"]
    lines += [f"PARAMETER stop {json.dumps(token, ensure_ascii=False)}" for token in _end_tokens(model_folder)]
    return "\n".join(lines) + "\n"


def _end_tokens(model_folder: Path) -> list[str]:
    settings = _read(model_folder / "tokenizer_config.json")
    token = settings.get("eos_token")
    names = [token.get("content") if isinstance(token, dict) else token]
    ends = _read(model_folder / "generation_config.json").get("eos_token_id") or []
    added = {t["id"]: t["content"] for t in _read(model_folder / "tokenizer.json").get("added_tokens", [])}
    names += [added.get(end) for end in (ends if isinstance(ends, list) else [ends])]
    return [name for name in dict.fromkeys(names) if name]


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
