"""`show FILE.gguf`: metadata, tensors and what made it."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len

from baihua.cli.lineage_view import tree
from baihua.core.artifact import find_artifact
from baihua.core.run import lineage
from baihua.core.tables import Table, pad, render_markdown, shorten
from baihua.modelfiles.gguf_header import GgufHeader, Tensor, Value, read_header

NUM_ITEMS = 3
"""Shown of a long list."""
NUM_COLUMNS = 100
"""Columns of a terminal that a value takes at most, unless it is asked for in full."""


def print_gguf(file: Path, *, num_rows: int, as_json: bool) -> None:
    """A GGUF file's metadata, the types of its tensors and its origin; the first `num_rows` tensors and full texts."""
    header = read_header(file)
    types = count_types(header.tensors)
    artifact = find_artifact(file)
    made_by = lineage(artifact) if artifact else None
    if as_json:
        found = {
            "file": str(file),
            "file_bytes": file.stat().st_size,
            "num_weights": sum(map(num_weights, header.tensors)),
            "metadata": {key: _shortened(value) for key, value in header.values.items()},
            "types": types,
            "tensors": [_as_json(tensor) for tensor in header.tensors[:num_rows]],
            "lineage": made_by,
            "origin": {} if made_by else origin(header),
        }
        print(_whole(json.dumps(found, ensure_ascii=False)))
        return
    print("\n".join(map(_printable, _lines(header, file, num_rows=num_rows))))
    print(
        tree(made_by) if made_by else "no manifest beside it: of its origin only general.* and baihua.* above are known"
    )


def count_types(tensors: Sequence[Tensor]) -> list[dict[str, Any]]:
    """Number, bytes and bits per weight of each tensor type, the most bytes first."""
    counts = Counter(tensor.type.name for tensor in tensors)
    found: list[dict[str, Any]] = []
    for name, count in counts.items():
        of_type = [tensor for tensor in tensors if tensor.type.name == name]
        num_bytes = sum(tensor.num_bytes for tensor in of_type)
        bits = round(8 * num_bytes / sum(map(num_weights, of_type)), 4)
        found.append({"type": name, "num_tensors": count, "num_bytes": num_bytes, "bits_per_weight": bits})
    return sorted(found, key=lambda row: (-row["num_bytes"], row["type"]))


def num_weights(tensor: Tensor) -> int:
    """Numbers in a tensor."""
    number = 1
    for length in tensor.shape:
        number *= length
    return number


def origin(header: GgufHeader) -> dict[str, Value]:
    """What the file itself says about where it comes from."""
    return {key: value for key, value in header.values.items() if key.startswith(("general.", "baihua."))}


def _lines(header: GgufHeader, file: Path, *, num_rows: int) -> Iterator[str]:
    total = sum(map(num_weights, header.tensors))
    bits = 8 * sum(tensor.num_bytes for tensor in header.tensors) / total if total else 0
    size = f"{file.stat().st_size:,} bytes, {len(header.tensors):,} tensors"
    yield f"{file}: {size}, {total:,} weights of {bits:.2f} bits"
    yield ""
    width = max(map(cell_len, header.values), default=0)
    for key, value in header.values.items():
        text = _text(value)
        # A text in full has lines of its own; otherwise each value takes one line.
        one = text if num_rows else shorten(" ".join(text.split()), NUM_COLUMNS)
        yield f"{pad(key, width)}  {one}"
    yield ""
    counted = count_types(header.tensors)
    rows = [[t["type"], t["num_tensors"], t["num_bytes"], f"{t['bits_per_weight']:.2f}"] for t in counted]
    yield render_markdown(Table(["type", "tensors", "bytes", "bits/weight"], rows))
    if num_rows:
        shown = [[t.name, t.type.name, " x ".join(map(str, t.shape))] for t in header.tensors[:num_rows]]
        yield render_markdown(Table(["tensor", "type", "shape, length of a row first"], shown))


def _text(value: Value) -> str:
    if not isinstance(value, list):
        return str(value)
    first = ", ".join(json.dumps(item, ensure_ascii=False) for item in value[:NUM_ITEMS])
    return f"[{first}{', ...' if len(value) > NUM_ITEMS else ''}] ({len(value):,} items)"


def _shortened(value: Value) -> Any:
    """A value for --json; of a long list its length and its first items."""
    if not isinstance(value, list) or len(value) <= NUM_ITEMS:
        return value
    return {"num_items": len(value), "first": value[:NUM_ITEMS]}


def _as_json(tensor: Tensor) -> Mapping[str, Any]:
    return {"name": tensor.name, "type": tensor.type.name, "shape": list(tensor.shape), "num_bytes": tensor.num_bytes}


def _whole(text: str) -> str:
    """The text without half characters, which pieces of a vocabulary may be."""
    return text.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")


def _printable(text: str) -> str:
    """The text as a terminal can take it: control characters become escapes."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in _whole(text))
