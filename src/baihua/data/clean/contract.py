"""What a filter may say about a row, and where it says it.

A file of `data/filters` has a `Config`, the example lists `KEPT` and `DROPPED` or `CHANGED`, and exactly one of

    drop_where(text, config) -> DropWhere      a Daft expression over a column of texts
    change(text, config) -> Expression         the same, giving the new text
    check_text(text, config) -> Keep | Drop    Python, for what an expression cannot say
    change_text(text, config) -> str
    check_row(messages, config) -> Keep | Drop | Change | Split
    check_meta(meta, config) -> Keep | Drop    by what a row remembers beside its messages
    check_id(row_id, config) -> Keep | Drop
    check_table(table, config) -> Marks        what only the whole table can tell (duplicates)

A text that is checked is all of a row, or its questions or answers where the config has a field `part`; with
`IS_PER_MESSAGE = True` each message of these by itself, and one hit drops the row. A text that is changed is one
message's content or input. Messages are those of a conversation; a document is one
message of the role `document`. What a function needs beyond its config it names in `NEEDS` and gets by keyword:
`count_tokens` (messages to a number), `topics` (a row's topic by its id).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from baihua.chat.types import Message

if TYPE_CHECKING:
    from daft import Expression


@dataclass(frozen=True, slots=True)
class Keep:
    """The row stays as it is."""


@dataclass(frozen=True, slots=True)
class Drop:
    """The row goes: a short reason, which is counted, and what was seen."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """The row stays with these messages."""

    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class Split:
    """The row becomes several; all but the first count as added."""

    parts: Sequence[Sequence[Message]]


@dataclass(frozen=True, slots=True)
class DropWhere:
    """Rows go where `condition` is true; `detail`, an expression of any type, says what was seen."""

    condition: "Expression"
    reason: str
    detail: "Expression"
