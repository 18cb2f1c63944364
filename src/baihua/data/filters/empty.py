"""Drops texts without a letter or digit of any script."""

from typing import Literal

from baihua.core.config import Base
from baihua.data.clean.contract import DropWhere, Expression, Part

KEPT = ["好。", "42", "A", "。。。好"]
DROPPED = ["", " \n\u3000", "……", "——！？", "😀"]


class Config(Base):
    """The texts that must not be empty."""

    kind: Literal["empty"] = "empty"
    """The name of this filter."""
    part: Part = "answers"
    """Texts of a row that are read together: all, questions or answers."""


def check_column(text: Expression, config: Config) -> DropWhere:
    """Drop a text without any letter or digit."""
    return DropWhere(~text.regexp(r"[\p{L}\p{N}]"), "empty", text.left(40))
