"""`{"messages": [{"role": "user", "content": "..."}, ...]}`: the layout of the OpenAI API, of TRL and of ours.

A user's message may have `input`, the material of its instruction. Also what all formats of turns share.
"""

from collections.abc import Iterable
from typing import Any, Literal

from baihua.chat.types import ROLES, Message
from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.data.formats.text import LONGEST_DETAIL, explain
from baihua.data.rows import Bad, Draft

EXAMPLE = {"messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "你好！"}]}

TOOL_ROLES = frozenset(
    {
        "function",
        "function_call",
        "function_response",
        "observation",
        "tool",
        "tool_call",
        "tool_calls",
        "tool_response",
        "tool_result",
        "tools",
    }
)


class Config(Base):
    """A list of messages with roles."""

    kind: Literal["messages"] = "messages"
    """The name of this format."""
    column: str = "messages"
    """The key that holds the list."""


def fits(record: dict[str, Any]) -> bool:
    """Whether there is a list of messages that have a role; that of a tool may have no content."""
    return are_turns(record.get("messages"), key="role")


def convert(record: dict[str, Any], config: Config) -> list[Draft] | Bad:
    """The conversation of a record."""
    items = record.get(config.column)
    if not isinstance(items, list) or not items:
        return Bad("no_messages", explain(record, (config.column,), wanted="a list of turns"))
    messages = collect(map(_read_message, items))
    return messages if isinstance(messages, Bad) else [Draft(messages)]


def read_messages(record: dict[str, Any], *, where: str) -> list[Message]:
    """The conversation of a JSON object; where it has none, an InputError names its place, FILE:LINE."""
    found = convert(record, Config())
    if isinstance(found, Bad):
        raise InputError(
            f"not a conversation: {found.detail}",
            where=where,
            fix=f'write it as {{"messages": [{{"role": "user", "content": "..."}}]}}; roles: {", ".join(ROLES)}',
        )
    return list(found[0].messages)


def are_turns(items: object, *, key: str) -> bool:
    """Whether something is a list of objects, at least one, that all have text under a key."""
    if not isinstance(items, list) or not items:
        return False
    return all(isinstance(item, dict) and isinstance(item.get(key), str) for item in items)


def collect(found: Iterable[Message | Bad]) -> list[Message] | Bad:
    """All messages, or the first reason why something is none."""
    messages: list[Message] = []
    for message in found:
        if isinstance(message, Bad):
            return message
        messages.append(message)
    return messages


def make_system(text: str | None) -> list[Message]:
    """A system message, or nothing for a blank text."""
    return [Message("system", text)] if text and text.strip() else []


def make_pair(question: str, answer: str) -> list[Message]:
    """A question and its answer."""
    return [Message("user", question), Message("assistant", answer)]


def refuse_turn(item: object, *, wanted: str) -> Bad:
    """Why something in a list is not a turn."""
    return Bad("not_a_message", f"expected {wanted}, found {item!r}"[:LONGEST_DETAIL])


def refuse_role(role: object, known: Iterable[str]) -> Bad:
    """Why a turn of this role cannot be used: tools are one reason, a role that nobody knows another."""
    if isinstance(role, str) and role.strip().casefold() in TOOL_ROLES:
        return refuse_tool(f"a turn of {role!r}")
    return Bad("unknown_role", f"{role!r}; the roles are: {', '.join(known)}"[:LONGEST_DETAIL])


def refuse_tool(found: str) -> Bad:
    """Why a conversation with tools cannot be used.

    Without the tool's turn the answer after it would teach the model to invent what the tool had said.
    """
    return Bad("tool_turn", f"{found}: conversations with tools cannot be trained on"[:LONGEST_DETAIL])


def _read_message(item: Any) -> Message | Bad:
    if not isinstance(item, dict) or "role" not in item:
        return refuse_turn(item, wanted="role and content")
    calls = [key for key in ("tool_calls", "function_call") if item.get(key)]
    if calls:
        return refuse_tool(f"{calls[0]} in a message")
    if item["role"] not in ROLES:
        return refuse_role(item["role"], ROLES)
    if not isinstance(item.get("content"), str):
        return refuse_turn(item, wanted="role and content")
    if not isinstance(item.get("input"), str | None):
        return refuse_turn(item["input"], wanted="`input` to be text")
    return Message(item["role"], item["content"], item.get("input") or None)
