"""`{"messages": [{"role": "user", "content": "..."}, ...]}`: the layout of the OpenAI API, of TRL and of Baihua.

A user's message may have `input`, the material of its instruction.
"""

from typing import Any, Literal

from baihua.chat.types import ROLES, Message
from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.data.drafts import Bad, Draft, are_turns, list_under, tool_turn, wrong_item, wrong_role

EXAMPLE = {"messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "你好！"}]}


class Config(Base):
    """A list of messages with roles."""

    kind: Literal["messages"] = "messages"
    """The name of this format."""
    column: str = "messages"
    """The key that holds the list."""


def fits(record: dict[str, Any]) -> bool:
    """Whether there is a list of messages that have a role; that of a tool may have no content."""
    return are_turns(record.get("messages"), key="role")


def convert(record: dict[str, Any], config: Config) -> list[Draft]:
    """The conversation of a record."""
    return [Draft([_read_message(item) for item in list_under(record, config.column)])]


def read_messages(record: dict[str, Any], *, where: str) -> list[Message]:
    """The conversation of a JSON object, in any order of roles; an InputError names its place, FILE:LINE."""
    try:
        return [_read_message(item) for item in list_under(record, Config().column)]
    except Bad as error:
        fix = f'write it as {{"messages": [{{"role": "user", "content": "..."}}]}}; roles: {", ".join(ROLES)}'
        raise InputError(f"not a conversation: {error.detail}", where=where, fix=fix) from error


def _read_message(item: Any) -> Message:
    if not isinstance(item, dict) or "role" not in item:
        raise wrong_item(item, expected="role and content")
    calls = [key for key in ("tool_calls", "function_call") if item.get(key)]
    if calls:
        raise tool_turn(f"{calls[0]} in a message")
    if item["role"] not in ROLES:
        raise wrong_role(item["role"], ROLES)
    if not isinstance(item.get("content"), str):
        raise wrong_item(item, expected="role and content")
    if not isinstance(item.get("input"), str | None):
        raise wrong_item(item["input"], expected="`input` to be text")
    return Message(item["role"], item["content"], item.get("input") or None)
