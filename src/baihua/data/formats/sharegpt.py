"""`{"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", ...}]}`: ShareGPT, Vicuna, BELLE."""

from typing import Any, Literal

from baihua.chat.types import Message, Role
from baihua.core.config import Base
from baihua.data.rows import Bad

EXAMPLE = {"conversations": [{"from": "human", "value": "你好"}, {"from": "gpt", "value": "你好！"}]}

ROLE_OF: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
    "system": "system",
}


class Config(Base):
    """Turns of `from` and `value`."""

    kind: Literal["sharegpt"] = "sharegpt"
    """The name of this format."""
    column: str = "conversations"
    """The key that holds the list."""


def convert(record: dict[str, Any], config: Config) -> list[list[Message]] | Bad:
    """The conversation of a record; a `system` key beside the list becomes the first message."""
    items = record.get(config.column)
    if not isinstance(items, list):
        return Bad("no_messages", f"expected a list under {config.column!r}; the keys are: {', '.join(record)}")
    system = record.get("system")
    messages = [Message("system", system)] if isinstance(system, str) and system else []
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get("value"), str):
            return Bad("not_a_message", f"expected from and value, found {item!r}"[:120])
        role = ROLE_OF.get(str(item.get("from")))
        if role is None:
            return Bad("unknown_role", f"{item.get('from')!r}; the roles are: {', '.join(ROLE_OF)}")
        messages.append(Message(role, item["value"]))
    return [messages]
