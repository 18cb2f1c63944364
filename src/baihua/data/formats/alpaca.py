"""`{"instruction": "...", "input": "...", "output": "..."}`: Stanford Alpaca and all that follow it."""

from typing import Any, Literal

from baihua.chat.types import Message
from baihua.core.config import Base
from baihua.data.rows import Bad

EXAMPLE = {"instruction": "翻译成英文", "input": "你好", "output": "Hello"}


class Config(Base):
    """An instruction, its material and the answer, each in a column."""

    kind: Literal["alpaca"] = "alpaca"
    """The name of this format."""
    instruction: str = "instruction"
    """The key of the instruction."""
    input: str = "input"
    """The key of the material, which a record may lack."""
    output: str = "output"
    """The key of the answer."""


def convert(record: dict[str, Any], config: Config) -> list[list[Message]] | Bad:
    """The conversation of a record."""
    for key in (config.instruction, config.output):
        if not isinstance(record.get(key), str):
            return Bad("no_text", f"expected text under {key!r}; the keys are: {', '.join(record)}")
    material = record.get(config.input)
    material = material if isinstance(material, str) and material.strip() else None
    return [[Message("user", record[config.instruction], material), Message("assistant", record[config.output])]]
