"""The rows of one shard as columns; all their texts are one array, so that filters process whole columns."""

# pyarrow.compute creates its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from baihua.chat.types import Message
from baihua.data.clean.contract import Part
from baihua.data.rows import DOCUMENT, DROPPED_SCHEMA, MESSAGE, SCHEMA, message_items

# A document counts as question and answer.
ROLES = {"questions": ["user", DOCUMENT], "answers": ["assistant", DOCUMENT]}


class Batch:
    """Rows in the layout of conversations; methods that change rows return a new batch."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        lists = table["messages"].combine_chunks()
        self._flat = pc.list_flatten(lists)
        self._row_of_message = np.repeat(np.arange(table.num_rows), pc.list_value_length(lists).to_numpy())

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.table.num_rows

    def texts(self, part: Part) -> pa.StringArray:
        """One text per row: its messages' contents and inputs, joined by newlines."""
        texts, rows = self.message_texts(part)
        return pc.binary_join(_as_lists(texts, rows, self.num_rows), "\n")

    def message_texts(self, part: Part) -> tuple[pa.StringArray, np.ndarray]:
        """One text per message, content and input joined by a newline, and the row number of each."""
        parts = self._column("content"), self._column("input")
        joined = pc.binary_join_element_wise(*parts, "\n", null_handling="skip")
        if part == "all":
            return joined, self._row_of_message
        is_wanted = pc.is_in(self._column("role"), pa.array(ROLES[part]))
        return joined.filter(is_wanted), self._row_of_message[is_wanted.to_numpy(zero_copy_only=False)]

    def fields(self) -> tuple[pa.StringArray, np.ndarray]:
        """All contents, then all inputs that are not null, and the row number of each."""
        fields = pa.concat_arrays([self._column("content"), self._column("input")])
        is_valid = pc.is_valid(fields)
        return fields.filter(is_valid), np.tile(self._row_of_message, 2)[is_valid.to_numpy(zero_copy_only=False)]

    def with_fields(self, texts: pa.StringArray) -> tuple["Batch", int]:
        """The rows with new texts in the order of `fields`, and how many rows differ from the old ones."""
        old = pa.concat_arrays([self._column("content"), self._column("input")])
        new = pc.replace_with_mask(pa.nulls(len(old), pa.string()), pc.is_valid(old), texts)
        differs = pc.fill_null(pc.not_equal(old, new), False).to_numpy(zero_copy_only=False)
        num_changed = len(np.unique(np.tile(self._row_of_message, 2)[differs]))
        num_messages = len(self._flat)
        columns = [self._column("role"), new.slice(0, num_messages), new.slice(num_messages)]
        message = pa.StructArray.from_arrays(columns, fields=list(MESSAGE))
        return self.with_column("messages", _as_lists(message, self._row_of_message, self.num_rows)), num_changed

    def find_emptied(self) -> np.ndarray:
        """Numbers of the rows in which the content of a message is empty or white space."""
        is_empty = pc.invert(pc.match_substring_regex(self._column("content"), r"\S"))
        return np.unique(self._row_of_message[is_empty.to_numpy(zero_copy_only=False)])

    @cached_property
    def messages(self) -> list[tuple[Message, ...]]:
        """The messages of each row."""
        rows = self.table["messages"].to_pylist()
        return [tuple(Message(item["role"], item["content"], item["input"]) for item in row) for row in rows]

    @cached_property
    def metas(self) -> list[dict[str, Any]]:
        """The values kept with each row."""
        return [json.loads(meta) for meta in self.column("meta")]

    def rows(self) -> list["BatchRow"]:
        """Each row as filters see it."""
        return [BatchRow(row_id, number, self) for number, row_id in enumerate(self.column("id"))]

    def column(self, name: str) -> list[Any]:
        """One column's values."""
        return self.table[name].to_pylist()

    def filter(self, is_kept: np.ndarray) -> "Batch":
        """The rows where the mask is true."""
        return Batch(self.table.filter(pa.array(is_kept)))

    def with_rows(self, numbers: Sequence[int], ids: Sequence[str], rows: Sequence[Sequence[Message]]) -> "Batch":
        """New rows; each takes its other columns from the row of that number."""
        table = self.table.take(pa.array(numbers, pa.int64())).set_column(0, "id", pa.array(ids, pa.string()))
        return Batch(table).with_column("messages", pa.array([message_items(row) for row in rows], pa.list_(MESSAGE)))

    def with_column(self, name: str, values: pa.Array) -> "Batch":
        """The same rows with new values in a column."""
        return Batch(self.table.set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), values))

    def as_dropped(self, reasons: Sequence[str], details: Sequence[str]) -> pa.Table:
        """The rows in the layout of dropped.parquet."""
        rows = [json.dumps({"messages": items}, ensure_ascii=False) for items in self.table["messages"].to_pylist()]
        columns = {name: self.table[name] for name in ("id", "source", "file", "line")}
        return pa.table(columns | {"reason": reasons, "detail": details, "row": rows}, schema=DROPPED_SCHEMA)

    def _column(self, name: str) -> pa.StringArray:
        return pc.struct_field(self._flat, name)


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One row of a batch; messages and meta of all rows are converted when the first one is read, which takes time."""

    id: str
    number: int
    batch: Batch

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages of the row."""
        return self.batch.messages[self.number]

    @property
    def meta(self) -> dict[str, Any]:
        """The values kept with the row."""
        return self.batch.metas[self.number]


def _as_lists(values: pa.Array, rows: np.ndarray, num_rows: int) -> pa.ListArray:
    """Values as one list per row; `rows` has the row number of each value, ascending."""
    offsets = np.searchsorted(rows, np.arange(num_rows + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)
