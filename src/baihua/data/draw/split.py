"""Holding out rows by the hash of their group, so that no group is on both sides.

N rows, G groups.
"""

# ruff: noqa: N806  (names of arrays end with their shape)

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from baihua.core.errors import InputError
from baihua.data.draw.hashed import hashed_number
from baihua.data.draw.index import Index, read_index
from baihua.data.rows import row_counts


def split_rows(data: Path, out: Path, *, heldout_share: float, seed: int) -> dict[str, Any]:
    """Write the folders train and heldout, each with its rows in their old order; returns the metrics."""
    index = read_index([data])
    is_heldout_N = find_heldout(index, heldout_share=heldout_share, seed=seed)
    num_heldout = int(is_heldout_N.sum())
    if num_heldout in (0, index.num_rows):
        raise InputError(
            f"{index.num_rows:,} rows in {len(index.groups_N.unique()):,} groups are too few to hold out "
            f"{heldout_share:.0%}: one side would be empty",
            where=str(data),
            fix="use more data, or another heldout_share or seed",
        )
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
