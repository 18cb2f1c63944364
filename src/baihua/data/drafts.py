"""Drafts of rows, which formats make from records, and the functions that all formats share.

They read texts and turns, and raise Bad where a record is not as expected, so that a format reads like the layout it
describes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from baihua.chat.types import Message

# Details are for people: enough of a record to recognise it, not all of a long one.
LONGEST_DETAIL = 200

_ROLES_OF_FUNCTIONS = ("function", "function_call", "function_response", "observation")
_ROLES_OF_TOOLS = ("tool", "tools", "tool_call", "tool_calls", "tool_response", "tool_result")
TOOL_ROLES = frozenset(_ROLES_OF_FUNCTIONS + _ROLES_OF_TOOLS)


@dataclass(frozen=True, slots=True)
class Draft:
    """A conversation, or a document's text, and what to keep in the row's meta."""

    messages: Sequence[Message] = ()
    text: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    is_answered: bool = True
    """False for a question to evaluate with: the conversation ends with the user."""


class Bad(Exception):  # noqa: N818  (a verdict on one record, which stops the stage only with `bad_rows: stop`)
    """The reason why a record cannot become a row, which is counted, and a detail: what was expected and found."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def check_turns(messages: Sequence[Message], *, is_answered: bool = True) -> None:
    """Raise Bad unless a conversation can be trained on, or is a question where it is not answered.

    Expected: an optional system message, then user and assistant in turn, without blank texts; the assistant is last,
    or the user where it is not answered.
    """
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    if is_answered and not any(message.role == "assistant" for message in turns):
        raise Bad("no_assistant_turn", f"{len(messages)} messages, none of the assistant")
    for number, message in enumerate(turns):
        expected = "assistant" if number % 2 else "user"
        if message.role != expected:
            raise Bad("roles_out_of_order", f"turn {number + 1} is {message.role!r}, expected {expected!r}")
        if not message.content.strip():
            raise Bad("empty_text", f"turn {number + 1} ({message.role}) is empty")
    if len(turns) % 2 == is_answered:
        raise Bad("ends_with_user", "the last turn has no answer") if is_answered else Bad("no_question")


def has_texts(record: Mapping[str, Any], *keys: str) -> bool:
    """Whether there is text under all of these keys."""
    return all(isinstance(record.get(key), str) for key in keys)


def text_under(record: Mapping[str, Any], key: str) -> str:
    """The text under a key."""
    if not isinstance(text := record.get(key), str):
        raise wrong_value(record, key, expected="text")
    return text


def optional_text(record: Mapping[str, Any], key: str) -> str:
    """The text under a key, empty where the key is missing or null."""
    return "" if record.get(key) is None else text_under(record, key)


def list_under(
    record: Mapping[str, Any], key: str, *, expected: str = "a list of turns", reason: str = "no_messages"
) -> list[Any]:
    """The list under a key, with at least one item."""
    items = record.get(key)
    if not isinstance(items, list) or not items:
        raise wrong_value(record, key, expected=expected, reason=reason)
    return items


def are_turns(items: object, *, key: str) -> bool:
    """Whether something is a list of at least one object, all with text under a key."""
    return isinstance(items, list) and bool(items) and all(isinstance(x, dict) and has_texts(x, key) for x in items)


def system_turn(text: str) -> list[Message]:
    """A system message, or nothing for a blank text."""
    return [Message("system", text)] if text.strip() else []


def turn_pair(question: str, answer: str) -> list[Message]:
    """A question and its answer."""
    return [Message("user", question), Message("assistant", answer)]


def wrong_value(record: Mapping[str, Any], *keys: str, expected: str, reason: str = "no_text") -> Bad:
    """The Bad for a value: what was expected under a key, or under one of several, and what was found."""
    present = next((key for key in keys if key in record), None)
    found = f"found {record[present]!r}" if present is not None else f"the keys are: {', '.join(record) or 'none'}"
    return Bad(reason, f"expected {expected} under {' or '.join(map(repr, keys))}; {found}"[:LONGEST_DETAIL])


def wrong_item(item: object, *, expected: str, reason: str = "not_a_message") -> Bad:
    """The Bad for an item of a list: what was expected, and what was found."""
    return Bad(reason, f"expected {expected}, found {item!r}"[:LONGEST_DETAIL])


def wrong_role(role: object, known: Iterable[str]) -> Bad:
    """The Bad for a role: that of a tool, or an unknown one."""
    if isinstance(role, str) and role.strip().casefold() in TOOL_ROLES:
        return tool_turn(f"a turn of {role!r}")
    return Bad("unknown_role", f"{role!r}; the roles are: {', '.join(known)}"[:LONGEST_DETAIL])


def tool_turn(found: str) -> Bad:
    """The Bad for a conversation with tools.

    Without the tool's turn, the answer after it would teach the model to invent what the tool returned.
    """
    return Bad("tool_turn", f"{found}: conversations with tools cannot be trained on"[:LONGEST_DETAIL])
