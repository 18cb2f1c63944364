"""Cut what is longer than the model's context into pieces that fit, and lose nothing.

A conversation is cut between turns, and each piece begins with its system message. A document is cut between
paragraphs; only a paragraph that is too long is cut between sentences, and only such a sentence between characters.
"""

import bisect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from baihua.chat.types import Message
from baihua.core.config import Base
from baihua.data.clean.contract import Drop, Keep, Split

NEEDS = ("count_tokens",)


class Config(Base):
    """How long a row may be, and what happens to a turn that alone is longer."""

    kind: Literal["split_long"] = "split_long"
    """The name of this filter."""
    maximum_tokens: int = Field(gt=0)
    """Most tokens of a rendered row, the template's own included."""
    overlong: Literal["drop", "keep"] = "drop"
    """Whether a question with its answer that alone is too long takes the whole row along, or stays as it is."""


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

# Every unit holds something besides white space, so no piece is blank; white space before a unit belongs to it.
PARAGRAPH = re.compile(r"\s*\S[^\n]*\n*(?:\s+\Z)?")
SENTENCE = re.compile(r"\s*\S.*?(?:[。！？!?…\n]+[”’」』）)】\"']*|\.(?=\s)|\Z)(?:\s+\Z)?", re.DOTALL)
CHARACTER = re.compile(r"\s*\S(?:\s+\Z)?")

Count = Callable[[Sequence[Message]], int]
Cuts = Iterator[tuple[str, Sequence[Message], int]]


def check_row(messages: Sequence[Message], config: Config, *, count_tokens: Count) -> Keep | Drop | Split:
    """Split a row at the last borders before each piece would be too long."""
    if count_tokens(messages) <= config.maximum_tokens:
        return Keep()
    cut = _cut_document if messages[0].role == "document" else _cut_conversation
    parts: list[Sequence[Message]] = []
    for name, part, num_tokens in cut(messages, config.maximum_tokens, count_tokens):
        if num_tokens > config.maximum_tokens and config.overlong == "drop":
            detail = f"{name} alone has {num_tokens:,} tokens, more than {config.maximum_tokens:,}"
            return Drop("too_many_tokens", detail)
        parts.append(part)
    return Split(parts) if len(parts) > 1 else Keep()


def _cut_conversation(messages: Sequence[Message], limit: int, count: Count) -> Cuts:
    """What each piece begins with, its messages and its tokens."""
    head = messages[:1] if messages[0].role == "system" else []
    turns = messages[len(head) :]

    def piece(start: int, end: int) -> list[Message]:
        return [*head, *turns[2 * start : 2 * end]]

    for start, end in _runs((len(turns) + 1) // 2, limit, lambda start, end: count(piece(start, end))):
        part = piece(start, end)
        yield f"question {start + 1} with its answer", part, count(part)


def _cut_document(messages: Sequence[Message], limit: int, count: Count) -> Cuts:
    document = messages[0]

    def measure(text: str) -> int:
        return count([replace(document, content=text)])

    for text in _cut_text(document.content, (PARAGRAPH, SENTENCE, CHARACTER), limit, measure):
        yield f"{text.strip()!r}", [replace(document, content=text)], measure(text)


def _cut_text(
    text: str, borders: Sequence[re.Pattern[str]], limit: int, measure: Callable[[str], int]
) -> Iterator[str]:
    """Pieces that together are the text; only a single character may be longer than the limit."""
    units = borders[0].findall(text) or [text]
    for start, end in _runs(len(units), limit, lambda start, end: measure("".join(units[start:end]))):
        piece = "".join(units[start:end])
        if len(borders) == 1 or end - start > 1 or measure(piece) <= limit:
            yield piece
        else:
            yield from _cut_text(piece, borders[1:], limit, measure)


def _runs(num_units: int, limit: int, measure: Callable[[int, int], int]) -> Iterator[tuple[int, int]]:
    """Borders of runs, each as long as the limit allows; a unit that alone is over the limit is a run of its own."""
    start = 0
    while start < num_units:
        # Counting tokens is the price here, so the length of a run is doubled and then halved towards its end: a run
        # of k units costs about 2 log k counts of texts near the limit, where unit by unit would cost k.
        step = 1
        while start + step <= num_units and measure(start, start + step) <= limit:
            step *= 2
        longest = start + step // 2
        untried = range(longest + 1, min(start + step, num_units + 1))
        longest += bisect.bisect_left(untried, True, key=lambda end: measure(start, end) > limit)
        end = max(longest, start + 1)
        yield start, end
        start = end
