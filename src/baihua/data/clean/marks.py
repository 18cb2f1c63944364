"""What a table filter found, written beside each shard for the next step to apply.

N rows of the whole table.
"""

# ruff: noqa: N803  (names of arrays end with their shape)

# pyarrow.compute makes its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from baihua.data.clean.table import Marks
from baihua.data.shards import kept_file


def save_marks(marks: Marks, stems: Sequence[Path], folder: Path) -> Path:
    """One pair of files per shard: rows to drop with what they resemble, and rows that change their group."""
    folder.mkdir(exist_ok=True)
    tables = [pq.read_table(kept_file(stem), columns=["id", "group"]) for stem in stems]
    ids = pa.chunked_array([table["id"].combine_chunks() for table in tables], pa.string())
    order = np.argsort(marks.dropped_R)
    dropped, kept = marks.dropped_R[order], marks.kept_R[order]
    details = pc.binary_join_element_wise("of ", ids.take(pa.array(kept)).combine_chunks(), "")
    if marks.similarity_R is not None:
        shares = pa.array([f"{share:.2f}" for share in marks.similarity_R[order]], pa.string())
        details = pc.binary_join_element_wise(details, shares, ", ")
    groups = _new_groups(marks.group_N, pa.chunked_array([table["group"].combine_chunks() for table in tables]))
    start = 0
    for number, table in enumerate(tables):
        end = start + table.num_rows
        first, last = np.searchsorted(dropped, [start, end])
        rows = pa.array(dropped[first:last] - start, pa.int64())
        reasons = pa.repeat(pa.scalar(marks.reason), last - first)
        columns = {"row": rows, "reason": reasons, "detail": details.slice(first, last - first)}
        pq.write_table(pa.table(columns), folder / f"{number:05}.dropped.parquet")
        pq.write_table(_changes(table["group"], groups, start), folder / f"{number:05}.groups.parquet")
        start = end
    return folder


def _new_groups(group_N: np.ndarray, old: pa.ChunkedArray) -> pa.StringArray | None:
    """Groups in which rows that belong together, by their old group or by the marks, are together; None: as before."""
    if np.array_equal(group_N, np.arange(len(group_N))):
        return None
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    encoded = old.combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy()
    num_groups = len(encoded.dictionary)
    # Groups are the nodes; each row ties its group to the group of the row that it belongs to.
    ties = coo_matrix((np.ones(len(codes), dtype=bool), (codes, codes[group_N])), shape=(num_groups, num_groups))
    _, labels = connected_components(ties, directed=False)
    _, first = np.unique(labels, return_index=True)
    return encoded.dictionary.take(pa.array(first[labels[codes]]))


def _changes(old: pa.ChunkedArray, groups: pa.StringArray | None, start: int) -> pa.Table:
    new = groups.slice(start, len(old)) if groups is not None else old.combine_chunks()
    rows = np.flatnonzero(pc.not_equal(new, old.combine_chunks()).to_numpy(zero_copy_only=False))
    return pa.table({"row": pa.array(rows, pa.int64()), "group": new.take(pa.array(rows))})
