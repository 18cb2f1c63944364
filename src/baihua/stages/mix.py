"""Put several data inputs together: all rows, or so many of each input or source."""

# ruff: noqa: N806  (names of arrays end with their shape)

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.core.log import logger
from baihua.core.stage import Input

if TYPE_CHECKING:
    from baihua.data.draw.mix import Shares

VERSION = 1
MOST_INPUTS = 8
INPUTS = {"data": Input(("conversations", "documents"))} | {
    f"data_{number}": Input(("conversations", "documents"), is_needed=False) for number in range(2, MOST_INPUTS + 1)
}
OUTPUT = ("conversations", "documents")


class Config(Base):
    """What the result is made of. Rows are drawn, and then shuffled, by hashes of seed and id: never by position."""

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
            raise InputError("repeat needs num_rows", fix="say how many rows the result is to have")
        return self


def run(config: Config, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Write conversations.parquet, shuffled, and dropped.parquet with the rows not drawn."""
    import numpy as np

    from baihua.data.draw.index import count_sources, read_index, write_not_drawn
    from baihua.data.draw.mix import Mixture, write_shuffled

    roles = [role for role in INPUTS if role in inputs]
    index = read_index([inputs[role] for role in roles])
    shares = Mixture(index, roles, config.seed).choose(
        weights=config.weights, caps=config.caps, num_rows=config.num_rows, repeat=config.repeat
    )
    for name, number in shares.missing.items():
        logger.info("mix: %s has %s rows too few for its share; `repeat: true` would repeat some", name, f"{number:,}")
    write_shuffled(index, shares.rows_E, out, seed=config.seed)
    drawn = np.unique(shares.rows_E)
    code_N = np.where(shares.is_capped_N, np.uint8(2), np.uint8(1))
    code_N[drawn] = 0
    write_not_drawn(index, code_N, out, details=("", "beyond its share", "beyond its cap"))
    num_left, num_repeated = index.num_rows - len(drawn), len(shares.rows_E) - len(drawn)
    return {
        "num_rows_in": index.num_rows,
        "num_rows_kept": len(shares.rows_E),
        "num_rows_dropped": {"not_drawn": num_left} if num_left else {},
        "num_rows_changed": {},
        "num_rows_added": {"repeated": num_repeated} if num_repeated else {},
        "num_rows_by_source": count_sources(index, shares.rows_E),
        **_share_figures(shares),
    }


def _share_figures(shares: "Shares") -> dict[str, Any]:
    """Wanted and reached share of each name, and how many rows it had too few."""
    num_wanted, num_reached = sum(shares.wanted.values()), sum(shares.reached.values())
    return {
        "share_wanted": {name: round(number / num_wanted, 4) for name, number in shares.wanted.items()},
        "share_reached": {name: round(number / num_reached, 4) for name, number in shares.reached.items()},
        "num_rows_missing": shares.missing,
    }
