"""Drops texts that are too short or too long, counted in characters."""

# Daft's operators accept plain values, but its type hints only expressions.
# pyright: reportOperatorIssue=false, reportArgumentType=false

from typing import Literal

from pydantic import Field

from baihua.core.config import Base
from baihua.data.clean.contract import DropWhere, Expression, Part

KEPT = ["好", "今天天气很好。"]
DROPPED = [""]


class Config(Base):
    """Limits for the length of a text."""

    kind: Literal["length"] = "length"
    """The name of this filter."""
    part: Part = "all"
    """Texts of a row that are counted together: all, questions or answers."""
    minimum_chars: int = Field(default=1, ge=0)
    """Smallest number of characters (Unicode code points, including spaces) that is kept."""
    maximum_chars: int | None = Field(default=None, ge=1)
    """Largest number of characters that is kept; without it, any."""


def check_column(text: Expression, config: Config) -> DropWhere:
    """Drop a text of fewer or more characters than allowed."""
    num_chars = text.length()
    condition = num_chars < config.minimum_chars
    if config.maximum_chars is not None:
        condition = condition | (num_chars > config.maximum_chars)
    return DropWhere(condition, "length", num_chars.cast("string") + " characters")
