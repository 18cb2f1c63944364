"""Take some of the rows; a smaller subset of the same seed is always part of a larger one."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.core.stage import Input, Inputs, Metrics

VERSION = 1
INPUTS = {"data": Input(("conversations", "documents"))}
OUTPUT = ("conversations", "documents")


class Config(Base):
    """Size and seed of the subset. Whole groups are drawn; the last one may be taken in part."""

    num_rows: int | None = Field(default=None, ge=1)
    """How many rows to take; give this or `share`."""
    share: float | None = Field(default=None, gt=0, le=1)
    """Which share of the rows to take, above 0 up to 1, at least one row; give this or `num_rows`."""
    by: Literal["all", "source"] = "all"
    """Whether rows are drawn from all alike, or from each source in proportion to its size."""
    seed: int = 0
    """Which draw: subsets of one seed are nested, another seed takes other rows."""

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.num_rows is None) == (self.share is None):
            raise InputError("give either num_rows or share", fix="num_rows: 500, or share: 0.1")
        return self


def run(config: Config, inputs: Inputs, out: Path) -> Metrics:
    """Write conversations.parquet in the order of the input, and dropped.parquet with the rows that were not drawn."""
    from baihua.data.draw.choose import take_subset

    return take_subset(inputs["data"], out, **config.model_dump())
