"""Drops rows that equal another one except for case, width, spaces and punctuation."""

from typing import Literal

from baihua.core.config import Base
from baihua.data.clean.contract import Duplicates, Part, RowTable
from baihua.data.clean.duplicates import find_exact


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
    return find_exact(table, part=config.part, keep=config.keep)
