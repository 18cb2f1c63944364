"""Drops rows that share most of their character n-grams with another row, such as lightly edited copies."""

from typing import Literal

from pydantic import Field

from baihua.core.config import Base
from baihua.data.clean.contract import Duplicates, Part, RowTable
from baihua.data.clean.duplicates import find_near


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
    return find_near(
        table,
        part=config.part,
        ngram=config.ngram,
        threshold=config.threshold,
        keep=config.keep,
        is_dropping=config.action == "drop",
    )
