"""Drops texts with too few Han characters among their letters: a fast test for Chinese."""

# Daft's operators accept plain values, but its type hints only expressions.
# pyright: reportOperatorIssue=false, reportArgumentType=false

from typing import Literal

from pydantic import Field

from baihua.chat.zh import HAN
from baihua.core.config import Base
from baihua.data.clean.contract import DropWhere, Expression, Part

KEPT = ["今天天气很好。", "用 Python 读取文件，再逐行打印出来。"]
DROPPED = ["Only English here.", "これはにほんごです。", "1 + 1 = 2", ""]

# HAN holds unassigned code points too, so it is cut to letters, as in `chat.zh.han_share`.
HAN_LETTER = rf"[{HAN}&&\p{{L}}]"


class Config(Base):
    """Limits for the share of Han characters."""

    kind: Literal["han_share"] = "han_share"
    """The name of this filter."""
    part: Part = "all"
    """Texts of a row that are counted together: all, questions or answers."""
    minimum: float = Field(default=0.5, ge=0, le=1)
    """Smallest share of Han characters among letters that is kept, 0 to 1."""
    maximum: float | None = Field(default=None, ge=0, le=1)
    """Largest share that is kept, 0 to 1; without it, any."""


def check_column(text: Expression, config: Config) -> DropWhere:
    """Drop a text with too small or too large a share of Han among its letters; without letters the share is 0.

    Equal to `chat.zh.han_share` except for letters that are newer than Python's Unicode tables. Both limits have the
    same reason; the detail gives the share.
    """
    # Without letters this is 0 / 0.
    share = (text.regexp_count(HAN_LETTER) / text.regexp_count(r"\p{L}")).fill_nan(0.0)
    condition = share < config.minimum
    if config.maximum is not None:
        condition = condition | (share > config.maximum)
    return DropWhere(condition, "few_han", share.round(2))
