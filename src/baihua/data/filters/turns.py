"""Drops conversations with too few or too many turns."""

from typing import Literal

from pydantic import Field

from baihua.chat.types import Message
from baihua.core.config import Base
from baihua.data.clean.contract import Drop, Keep, RowView

KEPT = [[Message("user", "你好"), Message("assistant", "你好！")]]
DROPPED = [[Message("system", "你是助手。"), Message("assistant", "你好！")]]


class Config(Base):
    """Limits for the number of turns."""

    kind: Literal["turns"] = "turns"
    """The name of this filter."""
    minimum_turns: int = Field(default=1, ge=0)
    """Smallest number of user messages that is kept; 0 also keeps documents, which have none."""
    maximum_turns: int | None = Field(default=None, ge=1)
    """Largest number of user messages that is kept; without it, any."""


def check_row(row: RowView, config: Config) -> Keep | Drop:
    """Drop a conversation with fewer or more user messages than allowed."""
    num_turns = sum(message.role == "user" for message in row.messages)
    if num_turns < config.minimum_turns:
        return Drop("too_few_turns", f"{num_turns} of at least {config.minimum_turns}")
    if config.maximum_turns is not None and num_turns > config.maximum_turns:
        return Drop("too_many_turns", f"{num_turns} of at most {config.maximum_turns}")
    return Keep()
