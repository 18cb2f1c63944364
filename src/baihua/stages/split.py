"""Hold out a share of the conversations; the parts are `train` and `heldout`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.core.stage import Input

VERSION = 1
INPUTS = {"data": Input(("conversations",))}
OUTPUT = ("conversations",)


class Config(Base):
    """How much is held out, and by which draw."""

    heldout_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the groups that are held out, between 0 and 1."""
    seed: int = 0
    """Which draw: another seed holds out other groups."""


def run(config: Config, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Write the folders train and heldout, each with its conversations.parquet."""
    from baihua.data.rows import read_rows, write_rows
    from baihua.data.split import split_rows

    rows = read_rows(inputs["data"])
    train, heldout = split_rows(rows, heldout_share=config.heldout_share, seed=config.seed)
    if not train or not heldout:
        raise InputError(
            f"{len(rows):,} rows in {len({row.group for row in rows}):,} groups are too few to hold out "
            f"{config.heldout_share:.0%}: one side would be empty",
            where=str(inputs["data"]),
            fix="use more data, or another heldout_share or seed",
        )
    write_rows(train, out / "train")
    write_rows(heldout, out / "heldout")
    return {
        "num_rows_in": len(rows),
        "num_rows_kept": len(rows),
        "num_rows_dropped": {},
        "num_rows_changed": {},
        "num_rows_added": {},
        "num_rows_train": len(train),
        "num_rows_heldout": len(heldout),
        "num_groups_heldout": len({row.group for row in heldout}),
    }
