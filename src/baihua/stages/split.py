"""Hold out a share of the rows; the parts are `train` and `heldout`."""

from pathlib import Path

from pydantic import Field

from baihua.core.config import Base
from baihua.core.stage import Input, Inputs, Metrics

VERSION = 1
INPUTS = {"data": Input(("conversations", "documents"))}
OUTPUT = ("conversations", "documents")


class Config(Base):
    """How much is held out, and by which draw."""

    heldout_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the groups that are held out, between 0 and 1."""
    seed: int = 0
    """Which draw: another seed holds out other groups."""


def run(config: Config, inputs: Inputs, out: Path) -> Metrics:
    """Write the folders train and heldout, each with its rows in their old order."""
    from baihua.data.draw.choose import split_rows

    return split_rows(inputs["data"], out, **config.model_dump())
