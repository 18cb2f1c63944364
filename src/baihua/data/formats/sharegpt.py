"""`{"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", ...}]}`: ShareGPT, Vicuna, BELLE.

A list of `role` and `content` under that key is read by `messages` with `column: conversations`.
"""

from typing import Any, Literal

from baihua.chat.types import Message, Role
from baihua.core.config import Base
from baihua.data.drafts import Draft, are_turns, list_under, optional_text, system_turn, wrong_item, wrong_role

EXAMPLE = {"conversations": [{"from": "human", "value": "你好"}, {"from": "gpt", "value": "你好！"}]}

# Exports of shared chats name the product that answered.
ROLE_OF: dict[str, Role] = {
    **dict.fromkeys(("human", "user", "prompter"), "user"),
    **dict.fromkeys(("gpt", "assistant", "bot", "ai", "model"), "assistant"),
    **dict.fromkeys(("chatgpt", "bing", "bard", "claude", "gemini"), "assistant"),
    "system": "system",
}


class Config(Base):
    """Turns of `from` and `value`."""

    kind: Literal["sharegpt"] = "sharegpt"
    """The name of this format."""
    column: str = "conversations"
    """The key that holds the list."""
    system: str = "system"
    """The key of the system message, which a record may lack."""


def fits(record: dict[str, Any]) -> bool:
    """Whether there is a list of turns with their speakers."""
    return are_turns(record.get("conversations"), key="from")


def convert(record: dict[str, Any], config: Config) -> list[Draft]:
    """The conversation of a record; the text under `system` becomes the first message."""
    items = list_under(record, config.column)
    system = optional_text(record, config.system)
    return [Draft([*system_turn(system), *map(_read_turn, items)])]


def _read_turn(item: Any) -> Message:
    if not isinstance(item, dict) or "from" not in item:
        raise wrong_item(item, expected="from and value")
    role = ROLE_OF.get(str(item["from"]).strip().casefold())
    if role is None:
        raise wrong_role(item["from"], ROLE_OF)
    if not isinstance(item.get("value"), str):
        raise wrong_item(item, expected="from and value")
    return Message(role, item["value"])
