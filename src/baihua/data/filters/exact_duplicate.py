"""Drops rows that equal another one except for case, width, spaces and punctuation."""

import hashlib
from typing import Literal

import numpy as np

from baihua.core.config import Base
from baihua.data.clean.contract import Duplicates, Part, RowTable
from baihua.data.clean.duplicates import group_rows
from baihua.data.clean.texts import normalise


class Config(Base):
    """Which texts are compared, and which of several equal rows is kept."""

    kind: Literal["exact_duplicate"] = "exact_duplicate"
    """The name of this filter."""
    part: Part = "all"
    """What is compared: all of a row, its questions or its answers; different questions may have the same answer."""
    keep: Literal["first", "longest"] = "first"
    """Which row is kept: the first, or the one with the most characters (the first of those)."""


def check_table(table: RowTable, config: Config) -> Duplicates:
    """Drop rows with the normalised text of another row; texts without letters or digits are never duplicates."""
    (digests,) = table.map(digest, config.part)
    high, low, num_chars = digests[:, 0], digests[:, 1], digests[:, 2]
    # lexsort is stable: among equals, the first row comes first.
    row = np.lexsort((~num_chars, low, high) if config.keep == "longest" else (low, high))
    row = row[num_chars[row] > 0]
    is_new = np.ones(len(row), dtype=bool)
    is_new[1:] = np.diff(high[row]).astype(bool) | np.diff(low[row]).astype(bool)
    best = row[np.maximum.accumulate(np.where(is_new, np.arange(len(row)), 0))]
    in_order = np.argsort(row[~is_new])
    dropped, kept = row[~is_new][in_order], best[~is_new][in_order]
    group = group_rows(table.num_rows, dropped, kept)
    return Duplicates(dropped, kept, similarity_R=None, reason="exact_duplicate", group_N=group)


def digest(texts: list[str]) -> tuple[np.ndarray]:
    """128 bits of each text's letters and digits, and its number of characters (0 if it has none): uint64_N3."""
    normal = [normalise(text).encode() for text in texts]
    joined = b"".join(hashlib.blake2b(text, digest_size=16).digest() for text in normal)
    num_chars = [len(text) if left else 0 for text, left in zip(texts, normal, strict=True)]
    halves = np.frombuffer(joined, dtype="<u8").reshape(-1, 2)
    return (np.column_stack([halves, np.array(num_chars, dtype=np.uint64)]),)
