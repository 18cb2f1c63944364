"""`{"instruction": "Human:...\\nAssistant:...\\nHuman:...\\nAssistant:", "output": "..."}`: BELLE's conversations.

The last answer is the output. BELLE's newer sets, `{"id": ..., "conversations": [...]}`, are read as well.
"""

import re
from typing import Any, Literal

from baihua.chat.types import Message
from baihua.core.config import Base
from baihua.data.drafts import Bad, Draft, has_texts, optional_text, text_under
from baihua.data.formats import sharegpt

EXAMPLE = {"instruction": "Human:你好\nAssistant:你好！\nHuman:再见\nAssistant:", "input": "", "output": "再见！"}

# Only at the start of a line: people also write about humans and assistants.
SPEAKER = re.compile(r"^(Human|Assistant)[:：]", re.MULTILINE)
QUESTION = re.compile(r"\s*Human[:：]")


class Config(Base):
    """A conversation as one text, with its last answer apart."""

    kind: Literal["belle"] = "belle"
    """The name of this format."""
    instruction: str = "instruction"
    """The key of the conversation's text."""
    input: str = "input"
    """The key of the last question's material, which a record may lack."""
    output: str = "output"
    """The key of the last answer."""
    column: str = "conversations"
    """The key of the list of turns; where a record has it, the other keys are not read."""


def fits(record: dict[str, Any]) -> bool:
    """Whether the instruction starts with a speaker; lists of turns are left to `sharegpt`."""
    return has_texts(record, "instruction", "output") and bool(QUESTION.match(record["instruction"]))


def convert(record: dict[str, Any], config: Config) -> list[Draft]:
    """The conversation of a record."""
    if record.get(config.column) is not None:
        return sharegpt.convert(record, sharegpt.Config(column=config.column))
    text, output = text_under(record, config.instruction), text_under(record, config.output)
    material = optional_text(record, config.input).strip()
    turns = _read_turns(text)
    if turns[-1].role == "assistant":
        # The output completes the last turn, which is usually empty.
        output = (turns.pop().content + output).strip()
    if material and turns:
        turns[-1] = Message(turns[-1].role, turns[-1].content, material)
    return [Draft([*turns, Message("assistant", output)])]


def _read_turns(text: str) -> list[Message]:
    before, *pieces = SPEAKER.split(text)
    if before.strip() or not pieces:
        raise Bad("no_messages", f"expected 'Human:' at the start, found {text[:40]!r}; is it alpaca?")
    turns = zip(pieces[::2], pieces[1::2], strict=True)
    return [Message("user" if speaker == "Human" else "assistant", words.strip()) for speaker, words in turns]
