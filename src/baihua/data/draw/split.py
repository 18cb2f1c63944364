"""Hold out a share of the rows by the hash of their group, so that no group is on both sides.

N rows, G groups.
"""

# ruff: noqa: N806  (names of arrays end with their shape)

import numpy as np

from baihua.data.draw.hashed import hashed_number
from baihua.data.draw.index import Index


def find_heldout(index: Index, *, heldout_share: float, seed: int) -> np.ndarray:
    """Which rows are held out, bool_N. A row's side depends on its group and the seed alone."""
    groups = index.groups_N.dictionary_encode()
    is_heldout_G = np.array([group_fraction(g, seed) < heldout_share for g in groups.dictionary.to_pylist()], bool)
    return is_heldout_G[groups.indices.to_numpy()]


def group_fraction(group: str, seed: int) -> float:
    """A number in [0, 1) that the group and the seed fix."""
    return hashed_number(f"{seed}:{group}") / 2**64
