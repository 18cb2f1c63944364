"""Drops rows by a number that came with them, such as a quality score."""

import math
from typing import Any, Literal

from pydantic import Field

from baihua.core.config import Base
from baihua.data.clean.contract import Drop, Keep, RowView


class Config(Base):
    """Bounds for a value beside the conversation."""

    kind: Literal["column"] = "column"
    """The name of this filter."""
    name: str = Field(min_length=1)
    """The key in the row's meta; a nested one is written with dots, such as metadata.score."""
    minimum: float | None = None
    """Smallest value that stays; without it, any."""
    maximum: float | None = None
    """Largest value that stays; without it, any."""
    missing: Literal["keep", "drop"] = "drop"
    """What becomes of a row without the key, or with null under it."""


EXAMPLE = Config(name="metadata.score", minimum=3, maximum=5)
KEPT: list[dict[str, Any]] = [{"metadata.score": 3}, {"metadata.score": 4.5, "来源": "翻译"}]
DROPPED: list[dict[str, Any]] = [
    {"metadata.score": 1},
    {"metadata.score": 6},
    {"metadata.score": "好"},
    {"metadata.score": None},
    {},
]


def check_row(row: RowView, config: Config) -> Keep | Drop:
    """Drop a row whose value is out of bounds or no number; true and false, numbers in quotes and NaN are none."""
    value = row.meta.get(config.name)
    if value is None:
        return Keep() if config.missing == "keep" else Drop("no_value", config.name)
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return Drop("not_a_number", f"{config.name} = {value!r}"[:80])
    if config.minimum is not None and value < config.minimum:
        return Drop("below_minimum", f"{config.name} = {value:g}")
    if config.maximum is not None and value > config.maximum:
        return Drop("above_maximum", f"{config.name} = {value:g}")
    return Keep()
