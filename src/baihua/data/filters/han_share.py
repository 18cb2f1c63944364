"""Drops texts whose letters are too seldom Chinese characters: the quick test for "is this Chinese at all"."""

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
    """How Chinese a text must be."""

    kind: Literal["han_share"] = "han_share"
    """The name of this filter."""
    part: Part = "all"
    """Which texts of a row count together: all, questions or answers."""
    minimum: float = Field(default=0.5, ge=0, le=1)
    """Smallest share of Han characters among letters that stays, 0 to 1."""
    maximum: float | None = Field(default=None, ge=0, le=1)
    """Largest share that stays, 0 to 1; without it, any."""


def check_column(text: Expression, config: Config) -> DropWhere:
    """Drop a text with too small a share of Han among its letters; without letters the share is 0.

    Equal to `chat.zh.han_share` but for letters that are younger than Python's Unicode tables. With a `maximum`,
    texts above it have the same reason: the detail, the share, tells them apart.
    """
    # Without letters this is 0 / 0.
    share = (text.regexp_count(HAN_LETTER) / text.regexp_count(r"\p{L}")).fill_nan(0.0)
    condition = share < config.minimum
    if config.maximum is not None:
        condition = condition | (share > config.maximum)
    return DropWhere(condition, "few_han", share.round(2))
