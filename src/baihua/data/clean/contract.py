"""The filter contract: the functions a filter file may define, and the answers they give.

A file of `data/filters` has a `Config`, examples (`KEPT`, `DROPPED`, `CHANGED`, `SPLIT`) and exactly one function:

    check_column(text, config) -> DropWhere | Expression        a Daft expression over a column of texts: the fastest
    check_text(text, config) -> Keep | Drop | str               one text, in Python
    check_row(row, config) -> Keep | Drop | Change | Split      the id, messages and meta of one row
    check_table(table, config) -> Duplicates                    all rows at once

An `Expression` or a `str` is the new text. `SCOPE` says which texts a function gets: by default `row`, all texts of a
row joined (only its questions or answers where the config has a field `part`); `message`, the same for one message;
or `field`, each content and each input by itself. One hit drops the row; only fields can be changed. A document is a
conversation of one message with the role `document`.

`NEEDS` names what a function gets by keyword beyond its config: `count_tokens` (messages to a number) or `topics` (a
row's topic by its id). Two more functions are optional: `fingerprint(config)` returns hashes of files that the config
names, for the identity of the result; `check_config(config, **needs)` refuses a config before any work.
"""

# ruff: noqa: N815  (names of arrays end with their shape)

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from baihua.chat.types import Message
from baihua.core import kinds
from baihua.core.config import Base
from baihua.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from daft import Expression
else:
    # A recipe is checked by importing its filters, and importing Daft takes two seconds.
    Expression = Any

FILTERS = "baihua.data.filters"
SHAPES = ("check_column", "check_text", "check_row", "check_table")

Part = Literal["all", "questions", "answers"]
Scope = Literal["row", "message", "field"]
TextMap = Callable[[list[str]], "tuple[np.ndarray, ...]"]


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep the row as it is."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop the row for a reason, a short code that is counted; the detail shows what was found."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """Replace the messages of the row."""

    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class Split:
    """Replace the row by several; all but the first count as added."""

    parts: Sequence[Sequence[Message]]


@dataclass(frozen=True, slots=True)
class DropWhere:
    """Drop rows where `condition` is true; `detail`, an expression of any type, shows what was found."""

    condition: Expression
    reason: str
    detail: Expression


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The answer of a table filter: rows to drop, each with the row that is kept in its place.

    R rows dropped, N rows of the table. Rows with the same number in `group_N` never end up on both sides of a split;
    a row that is like no other has its own row number.
    """

    dropped_R: "np.ndarray"
    kept_R: "np.ndarray"
    similarity_R: "np.ndarray | None"
    reason: str
    group_N: "np.ndarray"


class RowView(Protocol):
    """One row as `check_row` gets it. A document has one message; `meta` are the values that `import_data` kept."""

    id: str
    messages: Sequence[Message]
    meta: Mapping[str, Any]


class RowTable(Protocol):
    """All N rows as `check_table` gets them: on disk, processed in parallel, never all in memory."""

    num_rows: int

    def map(self, function: TextMap, part: Part) -> "tuple[np.ndarray, ...]":
        """Arrays that a function makes of the texts of each block of rows, concatenated and memory-mapped.

        The function runs in other processes: pass a function of a module, or a `functools.partial` of one with
        keyword arguments that JSON can hold.
        """
        ...


class Filter:
    """One filter of a recipe: its config and what its file defines.

    A file without exactly one filter function is an InputError.
    """

    def __init__(self, config: Base) -> None:
        settings = dict(config)
        self.kind: str = settings["kind"]
        self.config = config
        module = kinds.find(FILTERS, self.kind)
        # The one place that looks up what a filter file defines.
        defined = vars(module)
        shapes = [shape for shape in SHAPES if shape in defined]
        if len(shapes) != 1:
            raise InputError(
                f"the filter {self.kind!r} defines {' and '.join(shapes) or 'no filter function'}",
                where=str(module.__file__),
                fix=f"define exactly one of {', '.join(SHAPES)}",
            )
        self.shape = shapes[0]
        self.function: Callable[..., Any] = defined[self.shape]
        self.scope: Scope = defined.get("SCOPE", "row")
        self.part: Part = settings.get("part", "all")
        self.needs: Sequence[str] = defined.get("NEEDS", ())
        self.fingerprint: Callable[[Any], Any] | None = defined.get("fingerprint")
        self.check_config: Callable[..., None] | None = defined.get("check_config")
