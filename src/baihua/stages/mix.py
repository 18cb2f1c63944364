"""Combine several data inputs: all rows, or a share of each input or source."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.core.stage import Input, Inputs, Metrics

VERSION = 1
MAX_NUM_INPUTS = 8
OUTPUT = ("conversations", "documents")
INPUTS = {"data": Input(OUTPUT)} | {
    f"data_{number}": Input(OUTPUT, is_required=False) for number in range(2, MAX_NUM_INPUTS + 1)
}


class Config(Base):
    """The composition of the result. Rows are drawn, then shuffled, by hashes of seed and id: never by position."""

    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default={})
    """Target share of an input (`data`, `data_2`, …) or a source in the result, relative to the sum of all weights;
    a row counts for its source if that has a weight, else for its input; 0 leaves rows out; empty takes all alike."""
    caps: dict[str, Annotated[int, Field(ge=1)]] = Field(default={})
    """At most this many different rows of an input or a source are used, at least 1; drawn before weights count."""
    num_rows: int | None = Field(default=None, ge=1)
    """Rows of the result; left out, all rows, or with weights as many as keep the shares without repeating a row."""
    repeat: bool = False
    """Whether rows are repeated, under new ids, where there are too few for `num_rows`; else the result is smaller."""
    seed: int = 0
    """Which draw and which order."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        if self.weights and not any(self.weights.values()):
            raise InputError("all weights are 0", fix="give at least one input or source a weight above 0")
        if self.repeat and self.num_rows is None:
            raise InputError("repeat needs num_rows", fix="set num_rows, the number of rows of the result")
        return self


def run(config: Config, inputs: Inputs, out: Path) -> Metrics:
    """Write conversations.parquet, shuffled, and dropped.parquet with the rows that were not drawn."""
    from baihua.data.draw.mix import mix_rows

    return mix_rows({role: inputs[role] for role in INPUTS if role in inputs}, out, **config.model_dump())
