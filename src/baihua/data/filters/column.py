"""Drops rows by a number in their meta, such as a quality score."""

import math
from typing import Any, Literal

from pydantic import Field

from baihua.core.config import Base
from baihua.data.clean.contract import Drop, Keep, RowView


class Config(Base):
    """Limits for a number that was imported with the row."""

    kind: Literal["column"] = "column"
    """The name of this filter."""
    name: str = Field(min_length=1)
    """The key in the row's meta; a nested key is written with dots, such as metadata.score."""
    minimum: float | None = None
    """Smallest value that is kept; without it, any."""
    maximum: float | None = None
    """Largest value that is kept; without it, any."""
    missing: Literal["keep", "drop"] = "drop"
    """What happens to a row without the key, or with null as its value."""


EXAMPLE = Config(name="metadata.score", minimum=3, maximum=5)
KEPT: list[dict[str, Any]] = [{"metadata.score": 3}, {"metadata.score": 4.5, "来源": "翻译"}]
DROPPED: list[dict[str, Any]] = [*({"metadata.score": value} for value in (1, 6, "好", None)), {}]


def check_row(row: RowView, config: Config) -> Keep | Drop:
    """Drop a row whose value is outside the limits or not a number; booleans, quoted numbers and NaN are not."""
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
