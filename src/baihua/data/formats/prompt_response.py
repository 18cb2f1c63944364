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
from baihua.data.formats.messages import collect, make_pair, make_system, refuse_tool, refuse_turn
from baihua.data.formats.text import explain, find_wrong_text
from baihua.data.rows import Bad, Draft

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
    if any(find_wrong_text(record, pair) is None for pair in PAIRS):
        return True
    if isinstance(record.get("plain_text"), str):
        return PLAIN_TURN.match(record["plain_text"].lstrip()) is not None
    return _is_chat(record.get("chat"))


def convert(record: dict[str, Any], config: Config) -> list[Draft] | Bad:
    """The conversation of a record; `kind` and `source` are kept beside it."""
    own = (config.prompt, config.response)
    pairs = PAIRS if own == PAIRS[0] else (own,)
    pair = max(pairs, key=lambda pair: sum(isinstance(record.get(key), str) for key in pair))
    wrong = find_wrong_text(record, pair)
    if wrong is None:
        meta = {key: record[key] for key in REMEMBERED if isinstance(record.get(key), str)}
        return [Draft(make_pair(record[pair[0]], record[pair[1]]), meta=meta)]
    is_moss = pairs is PAIRS and any(record.get(key) is not None for key in ("chat", "plain_text"))
    return _read_moss(record) if is_moss else wrong


def _read_moss(record: dict[str, Any]) -> list[Draft] | Bad:
    wrong = find_wrong_text(record, (), ("meta_instruction", "prefix"))
    messages = wrong or (
        _read_plain(record["plain_text"]) if record.get("chat") is None else _read_chat(record["chat"])
    )
    if isinstance(messages, Bad):
        return messages
    system = record.get("meta_instruction") or record.get("prefix") or ""
    return [Draft([*make_system(system.strip()), *messages])]


def _is_chat(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and bool(value) and all(map(TURN_KEY.fullmatch, value))


def _read_chat(chat: object) -> list[Message] | Bad:
    """Turns by their numbers: as text, turn_10 would come before turn_2."""
    if not _is_chat(chat):
        return Bad("no_messages", explain({"chat": chat}, ("chat",), wanted="turn_1, turn_2 and so on"))
    keys = sorted(chat, key=lambda key: int(key.removeprefix("turn_")))
    return collect(message for key in keys for message in _read_turn(chat[key]))


def _read_turn(turn: Any) -> list[Message] | list[Bad]:
    if not isinstance(turn, dict) or find_wrong_text(turn, ("Human", "MOSS"), INNER_KEYS):
        return [refuse_turn(turn, wanted="texts under 'Human' and 'MOSS'")]
    used = [key for key in INNER_KEYS if _unmark(turn.get(key) or "") not in ("", "None")]
    if used:
        return [refuse_tool(f"{used[0]}: {_unmark(turn[used[0]])[:80]}")]
    return make_pair(_unmark(turn["Human"]), _unmark(turn["MOSS"]))


def _unmark(text: str) -> str:
    return MARKS.sub("", text).strip()


def _read_plain(text: Any) -> list[Message] | Bad:
    turns = PLAIN_TURN.findall(text) if isinstance(text, str) else []
    if not turns or PLAIN_TURN.sub("", text).strip():
        return Bad(
            "no_messages", explain({"plain_text": text}, ("plain_text",), wanted="turns of [Human]: and [MOSS]:")
        )
    return [Message("user" if speaker == "Human" else "assistant", words.strip()) for speaker, words in turns]
