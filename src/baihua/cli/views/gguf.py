"""A GGUF file: its metadata, its tensors and what it was made from."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len

from baihua.cli.views.lineage import format_lineage
from baihua.core.artifact import find_artifact
from baihua.core.run import lineage
from baihua.core.tables import Table, pad, render_markdown, shorten
from baihua.modelfiles.gguf_header import GgufHeader, Tensor, Value, read_header

# Items shown of a long list, and terminal columns of a value, unless all of it is requested.
NUM_ITEMS, NUM_COLUMNS = 3, 100


def print_gguf(file: Path, *, num_rows: int, as_json: bool) -> None:
    """A GGUF file's metadata, tensor types and origin; with `num_rows` also that many tensors, and texts in full."""
    header = read_header(file)
    artifact = find_artifact(file)
    made_by = lineage(artifact) if artifact else None
    if as_json:
        origin = {key: value for key, value in header.values.items() if key.startswith(("general.", "baihua."))}
        found = {
            "file": str(file),
            "file_bytes": file.stat().st_size,
            "num_weights": sum(map(num_weights, header.tensors)),
            "metadata": {key: _shortened(value) for key, value in header.values.items()},
            "types": count_types(header.tensors),
            "tensors": [_as_json(tensor) for tensor in header.tensors[:num_rows]],
            "lineage": made_by,
            "origin": {} if made_by else origin,
        }
        print(_whole(json.dumps(found, ensure_ascii=False)))
        return
    print("\n".join(map(_printable, _lines(header, file, num_rows=num_rows))))
    unknown = "no manifest with it; its origin is known only from general.* and baihua.* above"
    print(format_lineage(made_by) if made_by else unknown)


def count_types(tensors: Sequence[Tensor]) -> list[dict[str, Any]]:
    """Number, bytes and bits per weight of each tensor type, the most bytes first."""
    found: list[dict[str, Any]] = []
    for name in {tensor.type.name for tensor in tensors}:
        of_type = [tensor for tensor in tensors if tensor.type.name == name]
        num_bytes = sum(tensor.num_bytes for tensor in of_type)
        bits = round(8 * num_bytes / sum(map(num_weights, of_type)), 4)
        found.append({"type": name, "num_tensors": len(of_type), "num_bytes": num_bytes, "bits_per_weight": bits})
    return sorted(found, key=lambda row: (-row["num_bytes"], row["type"]))


def num_weights(tensor: Tensor) -> int:
    """Numbers in a tensor."""
    return math.prod(tensor.shape)


def _lines(header: GgufHeader, file: Path, *, num_rows: int) -> Iterator[str]:
    total = sum(map(num_weights, header.tensors))
    bits = 8 * sum(tensor.num_bytes for tensor in header.tensors) / total if total else 0
    size = f"{file.stat().st_size:,} bytes, {len(header.tensors):,} tensors"
    yield f"{file}: {size}, {total:,} weights of {bits:.2f} bits\n"
    width = max(map(cell_len, header.values), default=0)
    for key, value in header.values.items():
        text = _text(value)
        yield f"{pad(key, width)}  {text if num_rows else shorten(' '.join(text.split()), NUM_COLUMNS)}"
    rows = [
        [found["type"], found["num_tensors"], found["num_bytes"], f"{found['bits_per_weight']:.2f}"]
        for found in count_types(header.tensors)
    ]
    yield "\n" + render_markdown(Table(["type", "tensors", "bytes", "bits/weight"], rows))
    if num_rows:
        shown = [[t.name, t.type.name, " x ".join(map(str, t.shape))] for t in header.tensors[:num_rows]]
        yield render_markdown(Table(["tensor", "type", "shape, row length first"], shown))


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


def _as_json(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "type": tensor.type.name, "shape": list(tensor.shape), "num_bytes": tensor.num_bytes}


def _whole(text: str) -> str:
    """The text with a replacement character for each half character, which tokens may hold."""
    return text.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")


def _printable(text: str) -> str:
    """The text with control characters escaped."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in _whole(text))
