"""Make conversations in which the chatbot says who it is, and contrast conversations about others."""

import unicodedata
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.core.stage import Input, Inputs, Metrics

VERSION = 1
INPUTS: dict[str, Input] = {}
OUTPUT = ("conversations",)


def _plain(text: str) -> str:
    """A name without blanks around it; a line break in one would end the turn in many chat templates."""
    if not text.strip():
        raise InputError("the name is empty", fix="give a name that the chatbot can say")
    for char in text.strip():
        if unicodedata.category(char)[0] == "C" or char in "\u2028\u2029":
            raise InputError(f"the name has the control character U+{ord(char):04X}", fix="remove it")
    return text.strip()


Name = Annotated[str, Field(max_length=60), AfterValidator(_plain)]


class Config(Base):
    """Name and maker of the chatbot, and the number of conversations."""

    name: Name
    """What the chatbot calls itself, at most 60 characters; for another spelling in English make a second stage."""
    maker: Name
    """Who made it, a person, a group or a company, at most 60 characters."""
    languages: list[Literal["zh", "en"]] = Field(default=["zh", "en"], min_length=1)
    """Languages of the conversations: zh, en."""
    num_answers: int = Field(default=1, ge=1, le=3)
    """How many rows with different answers each of about 150 Chinese and 85 English questions has, 1 to 3."""
    seed: int = 0
    """Which answers are drawn."""


def run(config: Config, inputs: Inputs, out: Path) -> Metrics:
    """Write conversations.parquet, about a quarter of it contrast rows, and an empty dropped.parquet."""
    from baihua.data.made.identity_rows import write_identity

    return write_identity(out, **config.model_dump())
