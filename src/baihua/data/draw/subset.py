"""Drawing rows by the hash of their content, so that a smaller subset is always part of a larger one.

N rows.
"""

# ruff: noqa: N803, N806  (names of arrays end with their shape)

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from baihua.core.errors import InputError
from baihua.data.draw.hashed import hashed_numbers
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
        raise InputError(
            f"a subset of {num_rows:,} rows was requested, the data has {index.num_rows:,}",
            where=str(data),
            fix="take fewer; to repeat rows, use the stage mix",
        )
    is_drawn_N = draw_rows(index, num_rows=num_rows, seed=seed, by=by)
    index.write_chosen(is_drawn_N, out)
    index.write_not_drawn((~is_drawn_N).astype(np.uint8), out, details=("", f"beyond the first {num_rows:,} rows"))
    counts = row_counts(index.num_rows, num_rows, dropped={"not_drawn": index.num_rows - num_rows})
    return counts | {"num_rows_by_source": index.count_sources(np.flatnonzero(is_drawn_N))}


def draw_rows(index: Index, *, num_rows: int, seed: int, by: By = "all") -> np.ndarray:
    """Which rows are drawn, bool_N: the first of an order that does not depend on how many are wanted."""
    order_N = _draw_order(index, seed)
    if by == "source":
        order_N = _in_proportion(order_N, index.source_N)
    is_drawn_N = np.zeros(index.num_rows, dtype=bool)
    is_drawn_N[order_N[:num_rows]] = True
    return is_drawn_N


def _draw_order(index: Index, seed: int) -> np.ndarray:
    """Row numbers_N in the order of the hash of their group; within a group, which is drawn as one, of their id."""
    pairs = zip(texts_of(index.groups_N), texts_of(index.ids_N), strict=True)
    groups = (group or row_id for group, row_id in pairs)
    keys_N = hashed_numbers(groups, salt=f"subset:{seed}", num_texts=index.num_rows)
    table = pa.table({"key": keys_N, "id": index.ids_N, "row": np.arange(index.num_rows)})
    return table.sort_by([("key", "ascending"), ("id", "ascending")])["row"].to_numpy()


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
