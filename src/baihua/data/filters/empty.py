"""Drops what says nothing: no letter and no digit of any script."""

from typing import Literal

from baihua.core.config import Base
from baihua.data.clean.contract import DropWhere, Expression, Part

KEPT = ["好。", "42", "A", "。。。好"]
DROPPED = ["", " \n\u3000", "……", "——！？", "😀"]


class Config(Base):
    """Text that holds nothing to read."""

    kind: Literal["empty"] = "empty"
    """The name of this filter."""
    part: Part = "answers"
    """Which texts of a row count: all, questions or answers."""


def check_column(text: Expression, config: Config) -> DropWhere:
    """Drop a text without any letter or digit."""
    return DropWhere(~text.regexp(r"[\p{L}\p{N}]"), "empty", text.left(40))
