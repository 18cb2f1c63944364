"""Dropped rows by reason, and clusters of rows that were dropped as copies of the same row."""

# pyarrow.compute makes its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from baihua.data.inspect.row_measures import excerpt, read_batches

# The detail of a dropped copy names the row that is kept: "of 0123456789abcdef, 0.83".
KEPT = r"^of (?P<id>[0-9a-f]{16}[-a-z0-9]*)"
NUM_CLUSTERS = 10
NUM_EXAMPLES = 3
# Keys of a record whose values are not part of its text.
NOT_TEXT = frozenset({"role", "from", "id", "source", "file", "line", "group", "meta"})


@dataclass(frozen=True, slots=True)
class DroppedCopy:
    """A row that was dropped as a copy."""

    file: str
    line: int
    detail: str
    excerpt: str


@dataclass(frozen=True, slots=True)
class CopyCluster:
    """A kept row and the rows dropped as its copies. It has no excerpt if another filter dropped it later."""

    id: str
    num_dropped: int
    excerpt: str | None
    reasons: dict[str, int] = field(default_factory=dict)
    examples: list[DroppedCopy] = field(default_factory=list)


def count_reasons(dropped: Path) -> dict[str, int]:
    """Dropped rows by reason, most frequent first."""
    found = Counter(reason for batch in _read(dropped, ["reason"]) for reason in batch["reason"].to_pylist())
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def find_clusters(dropped: Path, data: Path, *, count: int = NUM_CLUSTERS) -> list[CopyCluster]:
    """The rows with the most dropped copies, most first."""
    kept_ids = (kept_id for batch in _read(dropped, ["detail"]) for kept_id in _kept_ids(batch).to_pylist())
    found = Counter(kept_id for kept_id in kept_ids if kept_id is not None)
    largest = sorted(found, key=lambda row_id: (-found[row_id], row_id))[:count]
    if not largest:
        return []
    excerpts = _read_excerpts(data, largest)
    clusters = {row_id: CopyCluster(row_id, found[row_id], excerpts.get(row_id)) for row_id in largest}
    for batch in _read(dropped, ["detail", "reason", "file", "line", "row"]):
        batch = batch.append_column("kept", _kept_ids(batch))
        for row in batch.filter(pc.is_in(batch["kept"], pa.array(clusters, pa.string()))).to_pylist():
            cluster = clusters[row["kept"]]
            cluster.reasons[row["reason"]] = cluster.reasons.get(row["reason"], 0) + 1
            if len(cluster.examples) < NUM_EXAMPLES:
                text = excerpt(_text_of(row["row"]))
                cluster.examples.append(DroppedCopy(row["file"], row["line"], row["detail"], text))
    return list(clusters.values())


def _read_excerpts(data: Path, ids: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for batch in read_batches(data):
        is_wanted = pc.is_in(batch.table["id"], pa.array(ids)).to_numpy()
        if is_wanted.any():
            chosen = batch.filter(is_wanted)
            found |= zip(chosen.column("id"), map(excerpt, chosen.texts("all").to_pylist()), strict=True)
    return found


def _kept_ids(batch: pa.RecordBatch) -> pa.Array:
    """The id that each row's detail names, null where it names none."""
    return pc.struct_field(pc.extract_regex(batch["detail"], KEPT), "id")


def _read(dropped: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    if dropped.is_file():
        with pq.ParquetFile(dropped) as reader:
            yield from reader.iter_batches(columns=columns)


def _text_of(raw: str) -> str:
    """The text in a dropped record; a record that is not JSON as it is."""
    try:
        return "\n".join(_texts(json.loads(raw)))
    except json.JSONDecodeError:
        return raw


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = [below for key, below in value.items() if key not in NOT_TEXT]
    if isinstance(value, list):
        for below in value:
            yield from _texts(below)
    elif isinstance(value, str) and value.strip():
        yield value
