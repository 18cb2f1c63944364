"""Drops rows that share most of their character n-grams with another row, such as lightly edited copies."""

from functools import partial
from typing import Literal

import numpy as np
from pydantic import Field

from baihua.core.config import Base
from baihua.data.clean.contract import Duplicates, Part, RowTable
from baihua.data.clean.duplicates import RankedRows, choose, group_rows, link_all, link_survivors, sort_packed
from baihua.data.clean.minhash import Grams, hash_grams, sketch


class Config(Base):
    """Which texts are compared and how, and whether similar rows are dropped or grouped."""

    kind: Literal["near_duplicate"] = "near_duplicate"
    """The name of this filter."""
    part: Part = "all"
    """What is compared: all texts of a row, its questions or its answers."""
    ngram: int = Field(default=5, ge=1, le=32)
    """Length of the n-grams in characters, 1 to 32."""
    threshold: float = Field(default=0.55, ge=0.5, le=1)
    """Smallest Jaccard similarity of two rows' n-grams at which they are near-duplicates, 0.5 to 1."""
    keep: Literal["longest", "first"] = "longest"
    """Which row is kept: the one with the most characters (the first of those), or the first."""
    action: Literal["drop", "group"] = "drop"
    """`drop` the other rows, or only `group` near-duplicates, so that a split never separates them."""


def check_table(table: RowTable, config: Config) -> Duplicates:
    """Drop rows similar to a row that is kept; the similarity of each such pair is computed exactly."""
    (sketches,) = table.map(partial(sketch, ngram=config.ngram), config.part)
    hashes, counts = table.map(partial(hash_grams, ngram=config.ngram), config.part)
    grams = Grams(hashes, np.concatenate([[0], counts]).cumsum())
    num_chars = sketches[:, 0]
    first = np.arange(table.num_rows, dtype=np.uint32)
    row_of = sort_packed(~num_chars, first).astype(np.uint32) if config.keep == "longest" else first
    rows = RankedRows(sketches[:, 1:], grams, row_of, num_chars[row_of] > 0, config.threshold)
    edges = link_survivors(rows) if config.action == "drop" else link_all(rows)
    group = group_rows(table.num_rows, row_of[edges.better], row_of[edges.worse])
    is_dropped = choose(edges, table.num_rows) if config.action == "drop" else np.zeros(table.num_rows, dtype=bool)
    # The edges are ordered: the first one to a kept row names the best of them.
    standing = np.flatnonzero(is_dropped[edges.worse] & ~is_dropped[edges.better])
    standing = standing[np.diff(edges.worse[standing].astype(np.int64), prepend=-1) > 0]
    standing = standing[np.argsort(row_of[edges.worse[standing]])]
    dropped, kept = row_of[edges.worse[standing]], row_of[edges.better[standing]]
    return Duplicates(dropped, kept, edges.similarity[standing], "near_duplicate", group_N=group)
