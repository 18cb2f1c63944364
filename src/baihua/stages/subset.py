"""Take some of the rows so that a smaller subset of the same seed is always inside a larger one."""

# ruff: noqa: N806  (names of arrays end with their shape)

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.core.stage import Input

VERSION = 1
INPUTS = {"data": Input(("conversations", "documents"))}
OUTPUT = ("conversations", "documents")


class Config(Base):
    """How much is taken, and by which draw. Whole groups are drawn; the last one may be taken in part."""

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
            raise InputError("a subset needs num_rows or share, one of the two", fix="num_rows: 500, or share: 0.1")
        return self


def run(config: Config, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Write conversations.parquet in the order of the input, and dropped.parquet with the rows not drawn."""
    import numpy as np

    from baihua.data.draw.index import count_sources, read_index, write_chosen, write_not_drawn
    from baihua.data.draw.subset import draw_rows

    index = read_index([inputs["data"]])
    num_rows = config.num_rows or max(1, round(index.num_rows * (config.share or 0)))
    if num_rows > index.num_rows:
        raise InputError(
            f"a subset of {num_rows:,} rows is wanted, there are {index.num_rows:,}",
            where=str(inputs["data"]),
            fix="take fewer; to repeat rows, use the stage mix",
        )
    is_drawn_N = draw_rows(index, num_rows=num_rows, seed=config.seed, by=config.by)
    write_chosen(index, is_drawn_N, out)
    write_not_drawn(index, (~is_drawn_N).astype(np.uint8), out, details=("", f"beyond the first {num_rows:,} rows"))
    num_left = index.num_rows - num_rows
    return {
        "num_rows_in": index.num_rows,
        "num_rows_kept": num_rows,
        "num_rows_dropped": {"not_drawn": num_left} if num_left else {},
        "num_rows_changed": {},
        "num_rows_added": {},
        "num_rows_by_source": count_sources(index, np.flatnonzero(is_drawn_N)),
    }
