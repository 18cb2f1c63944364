"""Hold out a share of the rows; the parts are `train` and `heldout`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.core.stage import Input

VERSION = 1
INPUTS = {"data": Input(("conversations", "documents"))}
OUTPUT = ("conversations", "documents")


class Config(Base):
    """How much is held out, and by which draw."""

    heldout_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the groups that are held out, between 0 and 1."""
    seed: int = 0
    """Which draw: another seed holds out other groups."""


def run(config: Config, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Write the folders train and heldout, each with its rows in their order."""
    import numpy as np
    import pyarrow as pa

    from baihua.data.draw.index import count_sources, read_index, write_chosen
    from baihua.data.draw.split import find_heldout

    index = read_index([inputs["data"]])
    is_heldout = find_heldout(index, heldout_share=config.heldout_share, seed=config.seed)
    num_heldout = int(is_heldout.sum())
    if num_heldout in (0, index.num_rows):
        num_groups = len(index.groups_N.unique())
        raise InputError(
            f"{index.num_rows:,} rows in {num_groups:,} groups are too few to hold out "
            f"{config.heldout_share:.0%}: one side would be empty",
            where=str(inputs["data"]),
            fix="use more data, or another heldout_share or seed",
        )
    write_chosen(index, ~is_heldout, out / "train")
    write_chosen(index, is_heldout, out / "heldout")
    return {
        "num_rows_in": index.num_rows,
        "num_rows_kept": index.num_rows,
        "num_rows_dropped": {},
        "num_rows_changed": {},
        "num_rows_added": {},
        "num_rows_train": index.num_rows - num_heldout,
        "num_rows_heldout": num_heldout,
        "num_groups_heldout": len(index.groups_N.filter(pa.array(is_heldout)).unique()),
        "num_rows_by_source": count_sources(index, np.arange(index.num_rows)),
    }
