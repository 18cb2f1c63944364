"""`{"instruction": "...", "input": "...", "output": "..."}`: Stanford Alpaca and all that follow it.

`system`, a text, and `history`, a list of earlier questions with their answers, are read where a record has them.
"""

from typing import Any, Literal

from baihua.chat.types import Message
from baihua.core.config import Base
from baihua.data.formats.messages import collect, make_pair, make_system
from baihua.data.formats.text import LONGEST_DETAIL, explain, find_wrong_text
from baihua.data.rows import Bad, Draft

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
    return find_wrong_text(record, ("instruction", "output")) is None


def convert(record: dict[str, Any], config: Config) -> list[Draft] | Bad:
    """The conversation of a record."""
    wrong = find_wrong_text(record, (config.instruction, config.output), (config.input, config.system))
    earlier = wrong or _read_history(record, config.history)
    if isinstance(earlier, Bad):
        return earlier
    material = record.get(config.input)
    question = Message("user", record[config.instruction], material if material and material.strip() else None)
    answer = Message("assistant", record[config.output])
    return [Draft([*make_system(record.get(config.system)), *earlier, question, answer])]


def _read_history(record: dict[str, Any], key: str) -> list[Message] | Bad:
    history = record.get(key) or []
    if not isinstance(history, list):
        return Bad("bad_history", explain(record, (key,), wanted="a list of [question, answer]"))
    return collect(message for turn in history for message in _read_pair(turn))


def _read_pair(turn: Any) -> list[Message] | list[Bad]:
    if isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn):
        return make_pair(*turn)
    return [Bad("bad_history", f"expected [question, answer], found {turn!r}"[:LONGEST_DETAIL])]
