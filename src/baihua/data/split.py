"""Hold out a share of the rows by the hash of their group, so that no group is on both sides."""

import hashlib
from collections.abc import Sequence

from baihua.data.rows import Row


def split_rows(rows: Sequence[Row], *, heldout_share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Rows to train on and rows held out. A row's side depends on its group and the seed alone."""
    train = [row for row in rows if group_fraction(row.group, seed) >= heldout_share]
    heldout = [row for row in rows if group_fraction(row.group, seed) < heldout_share]
    return train, heldout


def group_fraction(group: str, seed: int) -> float:
    """A number in [0, 1) that the group and the seed fix."""
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
