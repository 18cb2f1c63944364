"""`{"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", ...}]}`: ShareGPT, Vicuna, BELLE.

A list of `role` and `content` under that key is read by `messages` with `column: conversations`.
"""

from typing import Any, Literal

from baihua.chat.types import Message, Role
from baihua.core.config import Base
from baihua.data.formats.messages import are_turns, collect, make_system, refuse_role, refuse_turn
from baihua.data.formats.text import explain, find_wrong_text
from baihua.data.rows import Bad, Draft

EXAMPLE = {"conversations": [{"from": "human", "value": "你好"}, {"from": "gpt", "value": "你好！"}]}

# Exports of shared chats name the product that answered.
ROLE_OF: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "claude": "assistant",
    "gemini": "assistant",
    "system": "system",
}


class Config(Base):
    """Turns of `from` and `value`."""

    kind: Literal["sharegpt"] = "sharegpt"
    """The name of this format."""
    column: str = "conversations"
    """The key that holds the list."""
    system: str = "system"
    """The key of a system message beside the list, which a record may lack."""


def fits(record: dict[str, Any]) -> bool:
    """Whether there is a list of turns that say whom they are from."""
    return are_turns(record.get("conversations"), key="from")


def convert(record: dict[str, Any], config: Config) -> list[Draft] | Bad:
    """The conversation of a record; a system text beside the list becomes the first message."""
    items = record.get(config.column)
    if not isinstance(items, list) or not items:
        return Bad("no_messages", explain(record, (config.column,), wanted="a list of turns"))
    wrong = find_wrong_text(record, (), (config.system,))
    messages = wrong or collect(map(_read_turn, items))
    if isinstance(messages, Bad):
        return messages
    return [Draft([*make_system(record.get(config.system)), *messages])]


def _read_turn(item: Any) -> Message | Bad:
    if not isinstance(item, dict) or "from" not in item:
        return refuse_turn(item, wanted="from and value")
    role = ROLE_OF.get(str(item["from"]).strip().casefold())
    if role is None:
        return refuse_role(item["from"], ROLE_OF)
    if not isinstance(item.get("value"), str):
        return refuse_turn(item, wanted="from and value")
    return Message(role, item["value"])
