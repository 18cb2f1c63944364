"""Rows that say the same as another but for case, width, spaces and punctuation."""

from typing import Literal

from baihua.core.config import Base
from baihua.data.clean.contract import Duplicates, Part, RowTable
from baihua.data.clean.duplicates import find_exact


class Config(Base):
    """Keep one of the rows whose letters and digits are the same."""

    kind: Literal["exact_duplicate"] = "exact_duplicate"
    """The name of this filter."""
    part: Part = "all"
    """What is compared: all of a row, its questions or its answers; the answers of different questions may agree."""
    keep: Literal["first", "longest"] = "first"
    """Which row stays: the first, or the one with the most characters (the first of those)."""


def check_table(table: RowTable, config: Config) -> Duplicates:
    """Drop rows whose normalised text another row has; a text without letters or digits is nobody's duplicate."""
    return find_exact(table, part=config.part, keep=config.keep)
