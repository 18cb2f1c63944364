"""Rows that were dropped, by reason, and those that were dropped as copies of one and the same row."""

# pyarrow.compute makes its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from baihua.data.inspect.measures import excerpt, read_batches

# Filters that drop copies say what is kept instead: "of 0123456789abcdef, 0.83".
KEPT = r"^of (?P<id>[0-9a-f]{16}[-a-z0-9]*)"
NUM_CLUSTERS = 10
NUM_EXAMPLES = 3
# Keys of a record whose values are not what somebody said.
SILENT = frozenset({"role", "from", "id", "source", "file", "line", "group", "meta"})


@dataclass(frozen=True, slots=True)
class Copy:
    """A row that was dropped as a copy."""

    file: str
    line: int
    detail: str
    excerpt: str


@dataclass(frozen=True, slots=True)
class Cluster:
    """A row that is kept and what was dropped for it. It has no excerpt when another filter dropped it later."""

    id: str
    num_dropped: int
    excerpt: str | None
    reasons: dict[str, int] = field(default_factory=dict)
    examples: list[Copy] = field(default_factory=list)


def count_reasons(dropped: Path) -> dict[str, int]:
    """Dropped rows by reason, most first; empty where nothing was dropped."""
    found: Counter[str] = Counter()
    for batch in _read(dropped, ["reason"]):
        found.update(batch["reason"].to_pylist())
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def find_clusters(dropped: Path, data: Path, *, count: int = NUM_CLUSTERS) -> list[Cluster]:
    """The rows for which most others were dropped, most first."""
    found: Counter[str] = Counter()
    for batch in _read(dropped, ["detail"]):
        found.update(_kept_ids(batch).drop_null().to_pylist())
    largest = sorted(found, key=lambda row_id: (-found[row_id], row_id))[:count]
    if not largest:
        return []
    excerpts = _read_excerpts(data, largest)
    clusters = {row_id: Cluster(row_id, found[row_id], excerpts.get(row_id)) for row_id in largest}
    _add_copies(dropped, clusters)
    return list(clusters.values())


def _add_copies(dropped: Path, clusters: dict[str, Cluster]) -> None:
    for batch in _read(dropped, ["detail", "reason", "file", "line", "row"]):
        kept_ids = _kept_ids(batch)
        for at in _places(kept_ids, clusters):
            cluster, record = clusters[kept_ids[at].as_py()], batch.slice(at, 1).to_pylist()[0]
            cluster.reasons[record["reason"]] = cluster.reasons.get(record["reason"], 0) + 1
            if len(cluster.examples) < NUM_EXAMPLES:
                text = excerpt(_said(record["row"]))
                cluster.examples.append(Copy(record["file"], record["line"], record["detail"], text))


def _read_excerpts(data: Path, ids: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for batch in read_batches(data):
        is_wanted = pc.is_in(batch.table["id"], pa.array(ids)).to_numpy()
        if is_wanted.any():
            chosen = batch.filter(is_wanted)
            found |= zip(chosen.column("id"), map(excerpt, chosen.texts("all").to_pylist()), strict=True)
    return found


def _places(values: pa.Array, wanted: Collection[str]) -> list[int]:
    """Where an array holds one of the wanted values."""
    return pc.indices_nonzero(pc.is_in(values, pa.array(wanted, pa.string()))).to_pylist()


def _kept_ids(batch: pa.RecordBatch) -> pa.Array:
    """The id that each row's detail names, null where it names none."""
    return pc.struct_field(pc.extract_regex(batch["detail"], KEPT), "id")


def _read(dropped: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    if dropped.is_file():
        with pq.ParquetFile(dropped) as reader:
            yield from reader.iter_batches(columns=columns)


def _said(raw: str) -> str:
    """What is said in a dropped record; one that is not JSON is shown as it is."""
    try:
        return "\n".join(_texts(json.loads(raw)))
    except json.JSONDecodeError:
        return raw


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = [below for key, below in value.items() if key not in SILENT]
    if isinstance(value, list):
        for below in value:
            yield from _texts(below)
    elif isinstance(value, str) and value.strip():
        yield value
