"""Rows that share most of their character n-grams with another: reworded copies, other endings, swapped clauses."""

from typing import Literal

from pydantic import Field

from baihua.core.config import Base
from baihua.data.clean.contract import Duplicates, Part, RowTable
from baihua.data.clean.duplicates import find_near


class Config(Base):
    """Keep one of the rows that are nearly the same, or keep them on one side of a split."""

    kind: Literal["near_duplicate"] = "near_duplicate"
    """The name of this filter."""
    part: Part = "all"
    """What is compared: all of a row, its questions or its answers."""
    ngram: int = Field(default=5, ge=1, le=32)
    """Length of the n-grams in characters, 1 to 32."""
    threshold: float = Field(default=0.55, ge=0.5, le=1)
    """Smallest Jaccard similarity of two rows' n-grams that counts as nearly the same, 0.5 to 1."""
    keep: Literal["longest", "first"] = "longest"
    """Which row stays: the one with the most characters (the first of those), or the first."""
    action: Literal["drop", "group"] = "drop"
    """What happens: `drop` the others, or drop none but `group` them, so that a split never parts them."""


def check_table(table: RowTable, config: Config) -> Duplicates:
    """Drop rows that are nearly the same as a row that stays; each pair is checked exactly, not only by its keys."""
    return find_near(
        table,
        part=config.part,
        ngram=config.ngram,
        threshold=config.threshold,
        keep=config.keep,
        is_dropping=config.action == "drop",
    )
