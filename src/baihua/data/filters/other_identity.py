"""Drops turns in which the assistant claims to be another model, or the model of another maker.

Such a turn has a claim in the first person ("我是由 OpenAI 训练的", "I am ChatGPT"), or a short answer to the question
who made the assistant. A turn that only talks about such a model stays, however often it names it.
"""

import functools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from baihua.chat.splitting import split_turns
from baihua.chat.types import Message
from baihua.chat.zh import SENTENCE_ENDS
from baihua.core.config import Base
from baihua.data.clean.contract import Change, Drop, Keep, RowView
from baihua.data.clean.texts import fill, read_patterns


class Config(Base):
    """Names of foreign models and makers, and of our own."""

    kind: Literal["other_identity"] = "other_identity"
    """The name of this filter."""
    names: list[str] = Field(default=[])
    """Names of models and makers that are foreign, in addition to those that this filter knows."""
    own: list[str] = Field(default=["白话", "Baihua"])
    """Our own names: a sentence with one of them stays, and none of them is foreign."""


KEPT = [
    [Message("user", "ChatGPT 是什么？"), Message("assistant", "ChatGPT 是 OpenAI 开发的语言模型。")],
    [Message("user", "你是 ChatGPT 吗？"), Message("assistant", "不是，我是白话，和 ChatGPT 是两个不同的助手。")],
    [Message("user", "假设你是李白，介绍一下自己。"), Message("assistant", "我是李白，字太白。")],
    [
        Message("user", "翻译成中文。", "I am Bard, a language model made by Google."),
        Message("assistant", "我是 Bard，谷歌开发的语言模型。"),
    ],
]
DROPPED = [
    [Message("user", "你是谁？"), Message("assistant", "我是由 OpenAI 训练的语言模型。")],
    [Message("user", "What are you?"), Message("assistant", "I'm a language model called Vicuna.")],
]
CHANGED = [
    (
        [
            Message("user", "谁开发了你？"),
            Message("assistant", "百度。"),
            Message("user", "一加一等于几？"),
            Message("assistant", "等于二。"),
        ],
        [Message("user", "一加一等于几？"), Message("assistant", "等于二。")],
    )
]

Patterns = dict[str, re.Pattern[str]]
# The words and patterns are in a file of the same name. <model>, <maker> and <name> are filled with names per config.
PATTERNS = read_patterns(Path(__file__).with_suffix(".yaml"))
TASK = re.compile(PATTERNS["task"], re.I)
KIND = re.compile(PATTERNS["kind"], re.I)
SELF = re.compile(r"我|\b(?:I|me|my)\b", re.I)
YES = re.compile(r"\s*(?:是的|没错|对(?!不)|嗯|正是|(?:yes|yeah|correct|right|that['’]s\s+right)\b)", re.I)
NO = re.compile(r"不|没有|并非|无关|另一|n['’]t\b|\b(?:not|no|neither|nor|unlike)\b|\bdiffer", re.I)
QUOTED = re.compile(r"“[^“”\n]*”|\"[^\"\n]*\"|「[^「」\n]*」|『[^『』\n]*』")
SENTENCE = re.compile(rf"[^{SENTENCE_ENDS}\n]+?(?:[{SENTENCE_ENDS}\n]|\.(?=\s|$)|$)")


def check_row(row: RowView, config: Config) -> Keep | Drop | Change:
    """Remove each turn whose answer claims to come from another model or maker."""
    patterns = _compile(tuple(config.names), tuple(config.own))
    system, turns = split_turns(row.messages)
    claims = [_find_claim(turn, patterns) for turn in turns]
    found = [claim for claim in claims if claim]
    if not found:
        return Keep()
    kept = [message for turn, claim in zip(turns, claims, strict=True) if not claim for message in turn]
    return Change([*system, *kept]) if kept else Drop("other_identity", found[0])


def _find_claim(turn: Sequence[Message], patterns: Patterns) -> str | None:
    """The sentence in which the answer of a turn claims another identity, if there is one."""
    if turn[-1].role != "assistant":
        return None
    question, answer = turn[0].text, turn[-1].content
    if TASK.search(question) and patterns["name"].search(question):
        return None
    is_asked = patterns["question"].search(question) is not None
    if not is_asked and not SELF.search(answer):
        return None
    # A quoted sentence in the first person is someone else speaking; a quoted name stays.
    for sentence in SENTENCE.findall(QUOTED.sub(lambda quoted: "" if SELF.search(quoted[0]) else quoted[0], answer)):
        if _is_claim(sentence, patterns, is_asked=is_asked) and not patterns["own"].search(sentence):
            return sentence.strip()
    is_admitted = patterns["asks_for_name"].search(question) and YES.match(answer)
    return answer.strip() if is_admitted and not patterns["own"].search(answer) else None


def _is_claim(sentence: str, patterns: Patterns, *, is_asked: bool) -> bool:
    """Whether a sentence makes the claim; after a question for the name, a name that is not denied is enough."""
    if SELF.search(sentence) and patterns["claim"].search(sentence):
        return True
    if is_asked and patterns["name"].search(sentence) and not NO.search(sentence):
        return True
    return KIND.search(sentence) is not None and patterns["ambiguous_claim"].search(sentence) is not None


@functools.cache
def _compile(names: tuple[str, ...], own: tuple[str, ...]) -> Patterns:
    """Foreign and own names, claims in the first person, and questions that ask for a name."""
    ours = {name.casefold() for name in own}
    models, makers = (
        [name for name in [*PATTERNS[known].split("|"), *names] if name.casefold() not in ours]
        for known in ("models", "makers")
    )
    ambiguous = [name for name in models if name in PATTERNS["ambiguous"].split("|") and name not in names]
    clear = [name for name in models if name not in ambiguous]
    words = {"model": _any_of(clear), "maker": _any_of(makers), "name": _any_of([*models, *makers])}
    filled = {kind: fill(PATTERNS[kind], words) for kind in ("claim", "question", "asks_for_name")}
    filled["ambiguous_claim"] = fill(PATTERNS["naming"], words | {"model": _any_of(ambiguous)})
    filled |= {"name": words["name"], "own": _any_of(own)}
    return {kind: re.compile(pattern, re.I) for kind, pattern in filled.items()}


def _any_of(names: Iterable[str]) -> str:
    """A pattern for any of these names; for no names, one that never matches."""
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return f"(?:{'|'.join(map(_whole, longest_first))})" if longest_first else r"(?!)"


def _whole(name: str) -> str:
    """A pattern for a name that is not part of a longer word; a blank in it may be a hyphen or nothing."""
    before = r"(?<![A-Za-z])" if name[:1].isascii() else ""
    after = r"(?![A-Za-z])" if name[-1:].isascii() and name[-1:].isalpha() else ""
    return before + r"[\s-]?".join(map(re.escape, name.split())) + after
