"""`{"instruction": "...", "input": "...", "output": "..."}`: Stanford Alpaca and the sets that follow it.

`system`, a text, and `history`, a list of earlier questions with their answers, are read where a record has them.
"""

from typing import Any, Literal

from baihua.chat.types import Message
from baihua.core.config import Base
from baihua.data import drafts
from baihua.data.drafts import Draft, has_texts, list_under, optional_text, system_turn, text_under, turn_pair

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
    system: str = "system"
    """The key of the system message, which a record may lack."""
    history: str = "history"
    """The key of the earlier turns, a list of [question, answer], which a record may lack."""


def fits(record: dict[str, Any]) -> bool:
    """Whether there is an instruction with an output."""
    return has_texts(record, "instruction", "output")


def convert(record: dict[str, Any], config: Config) -> list[Draft]:
    """The conversation of a record."""
    instruction, output = text_under(record, config.instruction), text_under(record, config.output)
    material, system = optional_text(record, config.input), optional_text(record, config.system)
    question = Message("user", instruction, material if material.strip() else None)
    earlier = _read_history(record, config.history)
    return [Draft([*system_turn(system), *earlier, question, Message("assistant", output)])]


def _read_history(record: dict[str, Any], key: str) -> list[Message]:
    if not record.get(key):
        return []
    messages: list[Message] = []
    for turn in list_under(record, key, expected="a list of [question, answer]", reason="bad_history"):
        if not (isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn)):
            raise drafts.wrong_item(turn, expected="[question, answer]", reason="bad_history")
        messages += turn_pair(*turn)
    return messages
