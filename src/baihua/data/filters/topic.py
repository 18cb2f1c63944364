"""Drops rows by the topics that `inspect` found and named."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from baihua.core import kinds
from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.data.clean.contract import Drop, Keep, RowView

NEEDS = ("topics",)


class Config(Base):
    """The topics that are dropped."""

    kind: Literal["topic"] = "topic"
    """The name of this filter."""
    drop: list[str] = Field(min_length=1)
    """Names of the topics to drop, as in the artifact of `inspect`."""


EXAMPLE = Config(drop=["x"])


def check_config(config: Config, *, topics: Mapping[str, str]) -> None:
    """Raise an InputError for a topic of the config that no row has."""
    known = sorted(set(topics.values()))
    for name in config.drop:
        if name not in known:
            raise InputError(kinds.unknown(name, known, what="topic"), fix="copy the name from the report")


def check_row(row: RowView, config: Config, *, topics: Mapping[str, str]) -> Keep | Drop:
    """Drop a row with one of the topics; a row without a topic is an InputError."""
    if row.id not in topics:
        raise InputError(
            f"row {row.id!r} has no topic",
            fix="inspect the same rows, and put `topic` before filters that change or split them",
        )
    topic = topics[row.id]
    return Drop("topic", topic) if topic in config.drop else Keep()
