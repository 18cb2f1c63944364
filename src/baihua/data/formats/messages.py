"""`{"messages": [{"role": "user", "content": "..."}, ...]}`: the layout of the OpenAI API, of TRL and of ours.

A user's message may have `input`, the material of its instruction.
"""

from typing import Any, Literal

from baihua.chat.types import ROLES, Message
from baihua.core.config import Base
from baihua.data.rows import Bad

EXAMPLE = {"messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "你好！"}]}


class Config(Base):
    """A list of messages with roles."""

    kind: Literal["messages"] = "messages"
    """The name of this format."""
    column: str = "messages"
    """The key that holds the list."""


def convert(record: dict[str, Any], config: Config) -> list[list[Message]] | Bad:
    """The conversation of a record."""
    items = record.get(config.column)
    if not isinstance(items, list):
        return Bad("no_messages", f"expected a list under {config.column!r}; the keys are: {', '.join(record)}")
    messages: list[Message] = []
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get("content"), str):
            return Bad("not_a_message", f"expected role and content, found {item!r}"[:120])
        if item.get("role") not in ROLES:
            return Bad("unknown_role", f"{item.get('role')!r}; the roles are: {', '.join(ROLES)}")
        if not isinstance(item.get("input"), str | None):
            return Bad("not_a_message", f"expected `input` to be text, found {item['input']!r}"[:120])
        messages.append(Message(item["role"], item["content"], item.get("input") or None))
    return [messages]
