"""A prompt and its response: GPT4All, Firefly, and the conversations of MOSS.

    {"prompt", "response", "source"}                      GPT4All
    {"kind", "input", "target"}                           Firefly
    {"meta_instruction", "chat": {"turn_1": {...}, ...}}  MOSS 003
    {"prefix", "plain_text": "[Human]: ...<eoh> ..."}     MOSS 002

What MOSS puts before a conversation, its instructions to itself, becomes the system message.
"""

import re
from typing import Any, Literal, TypeGuard

from baihua.chat.types import Message
from baihua.core.config import Base
from baihua.data import drafts
from baihua.data.drafts import Draft, has_texts, optional_text, system_turn, text_under, turn_pair

EXAMPLE = {"prompt": "你好", "response": "你好！", "source": "daily"}

PAIRS = (("prompt", "response"), ("input", "target"))
REMEMBERED = ("kind", "source")

# Both of MOSS's layouts close a text with one of <eoh>, <eot>, <eoc>, <eor>, <eom>, <eoa>; 003 also opens it.
MARKS = re.compile(r"\A\s*<\|[\w ]+\|>:|<eo[a-z]>\s*\Z")
PLAIN_TURN = re.compile(r"\[(Human|MOSS)\]:(.*?)(?:<eo[a-z]>|\Z)", re.DOTALL)
TURN_KEY = re.compile(r"turn_[0-9]{1,9}")
INNER_KEYS = ("Inner Thoughts", "Commands", "Tool Responses")


class Config(Base):
    """A prompt and a response; under the default keys, Firefly's and MOSS's records are read too."""

    kind: Literal["prompt_response"] = "prompt_response"
    """The name of this format."""
    prompt: str = "prompt"
    """The key of the prompt."""
    response: str = "response"
    """The key of the response."""


def fits(record: dict[str, Any]) -> bool:
    """Whether there is a pair under the keys of GPT4All or Firefly, or a conversation of MOSS."""
    if any(has_texts(record, *pair) for pair in PAIRS):
        return True
    if has_texts(record, "plain_text"):
        return PLAIN_TURN.match(record["plain_text"].lstrip()) is not None
    return _is_chat(record.get("chat"))


def convert(record: dict[str, Any], config: Config) -> list[Draft]:
    """The conversation of a record; `kind` and `source` go into its meta."""
    own = (config.prompt, config.response)
    pairs = PAIRS if own == PAIRS[0] else (own,)
    pair = max(pairs, key=lambda pair: sum(isinstance(record.get(key), str) for key in pair))
    is_moss = pairs is PAIRS and any(record.get(key) is not None for key in ("chat", "plain_text"))
    if is_moss and not has_texts(record, *pair):
        system = [optional_text(record, key) for key in ("meta_instruction", "prefix")]
        turns = _read_plain(record) if record.get("chat") is None else _read_chat(record)
        return [Draft([*system_turn((system[0] or system[1]).strip()), *turns])]
    prompt, response = (text_under(record, key) for key in pair)
    return [Draft(turn_pair(prompt, response), meta={key: record[key] for key in REMEMBERED if has_texts(record, key)})]


def _is_chat(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and bool(value) and all(map(TURN_KEY.fullmatch, value))


def _read_chat(record: dict[str, Any]) -> list[Message]:
    """Turns by their numbers: as text, turn_10 would come before turn_2."""
    chat = record["chat"]
    if not _is_chat(chat):
        raise drafts.wrong_value(record, "chat", expected="turn_1, turn_2 and so on", reason="no_messages")
    keys = sorted(chat, key=lambda key: int(key.removeprefix("turn_")))
    return [message for key in keys for message in _read_turn(chat[key])]


def _read_turn(turn: Any) -> list[Message]:
    given = [key for key in INNER_KEYS if isinstance(turn, dict) and turn.get(key) is not None]
    if not isinstance(turn, dict) or not has_texts(turn, "Human", "MOSS", *given):
        raise drafts.wrong_item(turn, expected="texts under 'Human' and 'MOSS'")
    used = [key for key in given if _unmark(turn[key]) not in ("", "None")]
    if used:
        raise drafts.tool_turn(f"{used[0]}: {_unmark(turn[used[0]])[:80]}")
    return turn_pair(_unmark(turn["Human"]), _unmark(turn["MOSS"]))


def _unmark(text: str) -> str:
    return MARKS.sub("", text).strip()


def _read_plain(record: dict[str, Any]) -> list[Message]:
    text = record["plain_text"]
    turns = PLAIN_TURN.findall(text) if isinstance(text, str) else []
    if not turns or PLAIN_TURN.sub("", text).strip():
        raise drafts.wrong_value(record, "plain_text", expected="turns of [Human]: and [MOSS]:", reason="no_messages")
    return [Message("user" if speaker == "Human" else "assistant", words.strip()) for speaker, words in turns]
