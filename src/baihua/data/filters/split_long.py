"""Splits rows that are longer than the model's context into parts that fit, without losing text.

A conversation is split between turns, and each part begins with its system message. A document is split between
paragraphs; only a paragraph that is too long is split between sentences, and only such a sentence between characters.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Literal

from pydantic import Field

from baihua.chat.splitting import fitting_runs, split_turns
from baihua.chat.types import Message
from baihua.chat.zh import SENTENCE_ENDS
from baihua.core.config import Base
from baihua.data.clean.contract import Drop, Keep, RowView, Split

NEEDS = ("count_tokens",)


class Config(Base):
    """The maximum length of a row, and what happens to a turn that alone is longer."""

    kind: Literal["split_long"] = "split_long"
    """The name of this filter."""
    maximum_tokens: int = Field(gt=0)
    """Maximum number of tokens of a rendered row, including those of the template."""
    over_long: Literal["drop", "keep"] = "drop"
    """What happens when one question with its answer is too long by itself: drop the whole row, or keep the turn."""


# The examples hold where a token is a character, with or without a few more for each message.
EXAMPLE = Config(maximum_tokens=24)
KEPT = [[Message("user", "一加一等于几？"), Message("assistant", "二。")]]
DROPPED = [[Message("user", "背一首诗。"), Message("assistant", "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。")]]
SPLIT = [
    (
        [
            Message("system", "说短句"),
            Message("user", "今天天气怎样"),
            Message("assistant", "晴天，微风"),
            Message("user", "明天会下雨吗"),
            Message("assistant", "也许会下。"),
        ],
        [
            [Message("system", "说短句"), Message("user", "今天天气怎样"), Message("assistant", "晴天，微风")],
            [Message("system", "说短句"), Message("user", "明天会下雨吗"), Message("assistant", "也许会下。")],
        ],
    )
]

# Every unit contains something besides white space, so no part is blank; white space before a unit belongs to it.
PARAGRAPH = re.compile(r"\s*\S[^\n]*\n*(?:\s+\Z)?")
SENTENCE = re.compile(rf"\s*\S.*?(?:[{SENTENCE_ENDS}…\n]+[”’」』）)】\"']*|\.(?=\s)|\Z)(?:\s+\Z)?", re.DOTALL)
CHARACTER = re.compile(r"\s*\S(?:\s+\Z)?")

Count = Callable[[Sequence[Message]], int]
NamedParts = Iterator[tuple[str, Sequence[Message]]]


def check_row(row: RowView, config: Config, *, count_tokens: Count) -> Keep | Drop | Split:
    """Split a row at the last boundary before each part would be too long."""
    limit = config.maximum_tokens
    if count_tokens(row.messages) <= limit:
        return Keep()
    split = _split_document if row.messages[0].role == "document" else _split_conversation
    parts: list[Sequence[Message]] = []
    for name, part in split(row.messages, limit, count_tokens):
        num_tokens = count_tokens(part)
        if num_tokens > limit and config.over_long == "drop":
            return Drop("too_many_tokens", f"{name} alone has {num_tokens:,} tokens, more than {limit:,}")
        parts.append(part)
    return Split(parts) if len(parts) > 1 else Keep()


def _split_conversation(messages: Sequence[Message], limit: int, count: Count) -> NamedParts:
    """The name of what each part begins with, and its messages."""
    system, turns = split_turns(messages)

    def part(start: int, end: int) -> list[Message]:
        return [*system, *chain(*turns[start:end])]

    for start, end in fitting_runs(len(turns), lambda start, end: count(part(start, end)) <= limit):
        yield f"question {start + 1} with its answer", part(start, end)


def _split_document(messages: Sequence[Message], limit: int, count: Count) -> NamedParts:
    def fits(text: str) -> bool:
        return count([replace(messages[0], content=text)]) <= limit

    for text in _split_text(messages[0].content, (PARAGRAPH, SENTENCE, CHARACTER), fits):
        yield f"{text.strip()!r}", [replace(messages[0], content=text)]


def _split_text(text: str, units: Sequence[re.Pattern[str]], fits: Callable[[str], bool]) -> Iterator[str]:
    """Parts that together are the text; only a single character may be too long."""
    found = units[0].findall(text) or [text]
    for start, end in fitting_runs(len(found), lambda start, end: fits("".join(found[start:end]))):
        part = "".join(found[start:end])
        if len(units) == 1 or end - start > 1 or fits(part):
            yield part
        else:
            yield from _split_text(part, units[1:], fits)
