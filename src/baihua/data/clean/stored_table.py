"""The rows of all shards on disk as table filters see them, and their answers written for the next step.

N rows of the whole table.
"""

# ruff: noqa: N803  (names of arrays end with their shape)
# pyarrow.compute makes its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from baihua.core.files import appearing
from baihua.data.batch import Batch
from baihua.data.clean.contract import Duplicates, Part, TextMap
from baihua.data.shards import RowGroup, kept_file
from baihua.data.workers import WorkPiece, run_pieces


class StoredTable:
    """A `contract.RowTable`. The arrays stay in files under `folder`, so that a rerun need not compute them again."""

    def __init__(self, stems: Sequence[Path], num_rows: int, folder: Path, cluster: str | None) -> None:
        self.num_rows = num_rows
        self._stems = stems
        self._folder = folder
        self._cluster = cluster
        self._num_calls = 0

    def map(self, function: TextMap, part: Part) -> tuple[np.ndarray, ...]:
        """Arrays that a function makes of the texts of each block of rows, concatenated and memory-mapped."""
        # The order of a filter's calls is fixed, so their number tells them apart also in a rerun.
        folder = self._folder / f"map-{self._num_calls}"
        folder.mkdir(parents=True, exist_ok=True)
        self._num_calls += 1
        named, keywords = (function.func, function.keywords) if isinstance(function, partial) else (function, {})
        name = f"{named.__module__}:{named.__qualname__}"
        work = partial(map_piece, function=name, keywords=keywords, part=part)
        pieces = [WorkPiece(folder / stem.name, {"file": str(kept_file(stem))}) for stem in self._stems]
        results = list(run_pieces(work, pieces, label="map", cluster=self._cluster))
        return tuple(
            _concatenate([folder / f"{stem.name}.{number}.npy" for stem in self._stems], folder / f"all.{number}.npy")
            for number in range(results[0]["num_arrays"])
        )


def map_piece(*, out: Path, file: str, function: str, keywords: dict[str, Any], part: Part) -> dict[str, Any]:
    """Call the function of a name on the texts of one shard and save the arrays it returns."""
    arrays = resolve_name(function)(Batch(RowGroup(file).read()).texts(part).to_pylist(), **keywords)
    for number, array in enumerate(arrays):
        target = out.with_name(f"{out.name}.{number}.npy")
        with appearing(target, is_shared=True) as unfinished, unfinished.open("wb") as stream:
            np.save(stream, array)
    return {"num_arrays": len(arrays)}


def _concatenate(files: Sequence[Path], target: Path) -> np.ndarray:
    """The arrays of files, one after the other, as one memory-mapped file."""
    parts = [np.load(file, mmap_mode="r") for file in files]
    shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
    if shape[0] == 0:
        return np.empty(shape, parts[0].dtype)
    whole = np.lib.format.open_memmap(target, mode="w+", dtype=parts[0].dtype, shape=shape)
    np.concatenate(parts, out=whole)
    whole.flush()
    return np.load(target, mmap_mode="r")


def write_duplicates(found: Duplicates, stems: Sequence[Path], folder: Path) -> Path:
    """Write two files per shard: rows to drop, with what they resemble, and rows that change their group."""
    folder.mkdir(exist_ok=True)
    tables = [pq.read_table(kept_file(stem), columns=["id", "group"]) for stem in stems]
    whole = pa.concat_tables(tables)
    order = np.argsort(found.dropped_R)
    dropped, kept = found.dropped_R[order], found.kept_R[order]
    details = pc.binary_join_element_wise("of ", whole["id"].take(pa.array(kept)).combine_chunks(), "")
    if found.similarity_R is not None:
        shares = pa.array([f"{share:.2f}" for share in found.similarity_R[order]], pa.string())
        details = pc.binary_join_element_wise(details, shares, ", ")
    old = whole["group"].combine_chunks()
    new = _merge_groups(found.group_N, old)
    start = 0
    for number, table in enumerate(tables):
        end = start + table.num_rows
        first, last = np.searchsorted(dropped, [start, end])
        rows = pa.array(dropped[first:last] - start, pa.int64())
        reasons = pa.repeat(pa.scalar(found.reason), last - first)
        columns = {"row": rows, "reason": reasons, "detail": details.slice(first, last - first)}
        pq.write_table(pa.table(columns), folder / f"{number:05}.dropped.parquet")
        groups = new.slice(start, table.num_rows)
        differs = pc.not_equal(groups, old.slice(start, table.num_rows)).to_numpy(zero_copy_only=False)
        rows = pa.array(np.flatnonzero(differs), pa.int64())
        pq.write_table(pa.table({"row": rows, "group": groups.take(rows)}), folder / f"{number:05}.groups.parquet")
        start = end
    return folder


def _merge_groups(group_N: np.ndarray, old: pa.StringArray) -> pa.StringArray:
    """Groups in which rows are together that were so before, or that belong together now."""
    if np.array_equal(group_N, np.arange(len(group_N))):
        return old
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    encoded = old.dictionary_encode()
    codes = encoded.indices.to_numpy()
    num_groups = len(encoded.dictionary)
    # The old groups are the nodes; each row ties its group to the group of the row that it belongs to.
    ties = coo_matrix((np.ones(len(codes), dtype=bool), (codes, codes[group_N])), shape=(num_groups, num_groups))
    _, labels = connected_components(ties, directed=False)
    _, first = np.unique(labels, return_index=True)
    return encoded.dictionary.take(pa.array(first[labels[codes]]))
