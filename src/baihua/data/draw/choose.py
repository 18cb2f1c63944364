"""Choosing rows by the hash of their group: a subset, which is always part of a larger one, or a held-out share.

No group is on both sides of a split. N rows, G groups.
"""

# ruff: noqa: N803, N806  (names of arrays end with their shape)

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from baihua.core.errors import InputError
from baihua.data.draw.hashed import hashed_number, hashed_numbers
from baihua.data.draw.index import Index, read_index, texts_of
from baihua.data.rows import row_counts

By = Literal["all", "source"]


def take_subset(
    data: Path, out: Path, *, num_rows: int | None, share: float | None, seed: int, by: By
) -> dict[str, Any]:
    """Write `num_rows` rows or a share in their old order, and dropped.parquet with the rest; returns the metrics."""
    index = read_index([data])
    num_rows = num_rows or max(1, round(index.num_rows * (share or 0)))
    if num_rows > index.num_rows:
        what = f"a subset of {num_rows:,} rows was requested, the data has {index.num_rows:,}"
        raise InputError(what, where=str(data), fix="take fewer; to repeat rows, use the stage mix")
    is_drawn_N = draw_rows(index, num_rows=num_rows, seed=seed, by=by)
    index.write_chosen(is_drawn_N, out)
    index.write_not_drawn((~is_drawn_N).astype(np.uint8), out, details=("", f"beyond the first {num_rows:,} rows"))
    counts = row_counts(index.num_rows, num_rows, dropped={"not_drawn": index.num_rows - num_rows})
    return counts | {"num_rows_by_source": index.count_sources(np.flatnonzero(is_drawn_N))}


def draw_rows(index: Index, *, num_rows: int, seed: int, by: By = "all") -> np.ndarray:
    """Which rows are drawn, bool_N: the first of an order that does not depend on how many are wanted."""
    # In the order of the hash of their group; within a group, which is drawn as one, of their id.
    pairs = zip(texts_of(index.groups_N), texts_of(index.ids_N), strict=True)
    groups = (group or row_id for group, row_id in pairs)
    keys_N = hashed_numbers(groups, salt=f"subset:{seed}", num_texts=index.num_rows)
    table = pa.table({"key": keys_N, "id": index.ids_N, "row": np.arange(index.num_rows)})
    order_N = table.sort_by([("key", "ascending"), ("id", "ascending")])["row"].to_numpy()
    if by == "source":
        order_N = _in_proportion(order_N, index.source_N)
    is_drawn_N = np.zeros(index.num_rows, dtype=bool)
    is_drawn_N[order_N[:num_rows]] = True
    return is_drawn_N


def _in_proportion(order_N: np.ndarray, source_N: np.ndarray) -> np.ndarray:
    """The same rows, reordered so that every prefix has each source in proportion.

    The k-th row of a source with n rows comes at (k - 1/2) / n: the divisor method of Sainte-Laguë. Largest
    remainders would be nearer by a fraction of a row, but a source can lose a row when the whole grows.
    """
    place_N = np.empty(len(order_N))
    for source in np.unique(source_N):
        is_of_source_N = source_N[order_N] == source
        num_rows = int(is_of_source_N.sum())
        place_N[is_of_source_N] = (np.arange(num_rows) + 0.5) / num_rows
    return order_N[np.argsort(place_N, kind="stable")]


def split_rows(data: Path, out: Path, *, heldout_share: float, seed: int) -> dict[str, Any]:
    """Write the folders train and heldout, each with its rows in their old order; returns the metrics."""
    index = read_index([data])
    is_heldout_N = find_heldout(index, heldout_share=heldout_share, seed=seed)
    num_heldout = int(is_heldout_N.sum())
    if num_heldout in (0, index.num_rows):
        num_groups = len(index.groups_N.unique())
        what = f"{index.num_rows:,} rows in {num_groups:,} groups are too few to hold out {heldout_share:.0%}"
        fix = "use more data, or another heldout_share or seed"
        raise InputError(f"{what}: one side would be empty", where=str(data), fix=fix)
    index.write_chosen(~is_heldout_N, out / "train")
    index.write_chosen(is_heldout_N, out / "heldout")
    return row_counts(index.num_rows, index.num_rows) | {
        "num_rows_train": index.num_rows - num_heldout,
        "num_rows_heldout": num_heldout,
        "num_groups_heldout": len(index.groups_N.filter(pa.array(is_heldout_N)).unique()),
        "num_rows_by_source": index.count_sources(np.arange(index.num_rows)),
    }


def find_heldout(index: Index, *, heldout_share: float, seed: int) -> np.ndarray:
    """Which rows are held out, bool_N. A row's side depends on its group and the seed alone."""
    groups = index.groups_N.dictionary_encode()
    is_heldout_G = np.array([group_fraction(g, seed) < heldout_share for g in groups.dictionary.to_pylist()], bool)
    return is_heldout_G[groups.indices.to_numpy()]


def group_fraction(group: str, seed: int) -> float:
    """A number in [0, 1) that depends on the group and the seed alone."""
    return hashed_number(f"{seed}:{group}") / 2**64
