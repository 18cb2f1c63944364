"""The rows of one shard while filters run over them."""

# pyarrow.compute makes its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from baihua.core.errors import InputError
from baihua.data.batch import Batch
from baihua.data.clean.contract import Change, Drop, DropWhere, Filter, Split
from baihua.data.clean.expressions import evaluate, text_column

# The reason of a row in which a change has left a message without any text.
EMPTIED = "empty_text"


Counts = dict[Literal["dropped", "changed", "added"], Counter[str]]
"""Rows dropped by reason, and rows changed and added by the kind of filter."""
Check = Callable[[Any], Any]


def new_counts() -> Counts:
    """Counts of no rows."""
    return {"dropped": Counter(), "changed": Counter(), "added": Counter()}


class Shard:
    """Rows that are still kept, tables of the rows that were dropped, and counts."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.dropped_rows: list[pa.Table] = []
        self.counts = new_counts()

    def run(self, item: Filter, needs: Mapping[str, Any]) -> None:
        """Run a filter that is not a table filter."""
        run = {"check_column": self._check_column, "check_text": self._check_texts, "check_row": self._check_rows}
        run[item.shape](item, lambda given: item.function(given, item.config, **needs))

    def drop(self, numbers: np.ndarray, reasons: Sequence[str], details: Sequence[str]) -> None:
        """Drop the rows of these numbers, each with its reason and detail."""
        if len(numbers):
            is_kept = np.ones(self.batch.num_rows, dtype=bool)
            is_kept[numbers] = False
            self.dropped_rows.append(self.batch.filter(~is_kept).as_dropped(reasons, details))
            self.batch = self.batch.filter(is_kept)
            self.counts["dropped"].update(reasons)

    def drop_emptied(self) -> None:
        """Drop the rows in which a change has left a message without text."""
        numbers = self.batch.find_emptied()
        self.drop(numbers, [EMPTIED] * len(numbers), ["a filter left a message without text"] * len(numbers))

    def drop_duplicates(self, stem: Path) -> None:
        """Set the groups and drop the rows that a table filter found."""
        groups = pq.read_table(f"{stem}.groups.parquet")
        if groups.num_rows:
            column = self.batch.table["group"].to_numpy(zero_copy_only=False).copy()
            column[groups["row"].to_numpy()] = groups["group"].to_pylist()
            self.batch = self.batch.with_column("group", pa.array(column, pa.string()))
        found = pq.read_table(f"{stem}.dropped.parquet")
        self.drop(found["row"].to_numpy(), found["reason"].to_pylist(), found["detail"].to_pylist())

    def change(self, item: Filter, texts: pa.StringArray) -> None:
        """Replace all fields by the texts that a filter returned for them."""
        if item.scope != "field":
            raise InputError(
                f"the filter {item.kind!r} returned a new text for a {item.scope}",
                where=f"filters: {item.kind}",
                fix='only single fields can be changed: set SCOPE = "field" in its file',
            )
        self.batch, num_changed = self.batch.with_fields(texts)
        # This sum has no entry for a filter that changed nothing.
        self.counts["changed"] += Counter({item.kind: num_changed})

    def _texts(self, item: Filter) -> tuple[pa.StringArray, np.ndarray]:
        """The texts that a filter gets, and the number of each one's row, ascending."""
        if item.scope == "field":
            return self.batch.fields()
        if item.scope == "message":
            return self.batch.message_texts(item.part)
        return self.batch.texts(item.part), np.arange(self.batch.num_rows)

    def _check_column(self, item: Filter, check: Check) -> None:
        texts, rows = self._texts(item)
        found = check(text_column())
        if not isinstance(found, DropWhere):
            self.change(item, evaluate(found, texts))
            return
        is_dropped = pc.fill_null(evaluate(found.condition, texts), False)
        hits = np.flatnonzero(is_dropped.to_numpy(zero_copy_only=False))
        numbers, first = np.unique(rows[hits], return_index=True)
        if len(numbers):
            details = pc.cast(evaluate(found.detail, texts.take(pa.array(hits[first]))), pa.string())
            self.drop(numbers, [found.reason] * len(numbers), pc.fill_null(details, "").to_pylist())

    def _check_texts(self, item: Filter, check: Check) -> None:
        texts, rows = self._texts(item)
        old = texts.to_pylist()
        answers = [check(text) for text in old]
        if any(isinstance(answer, str) for answer in answers):
            new = [answer if isinstance(answer, str) else text for text, answer in zip(old, answers, strict=True)]
            self.change(item, pa.array(new, pa.string()))
        self._drop_found(zip(rows.tolist(), answers, strict=True))

    def _check_rows(self, item: Filter, check: Check) -> None:
        before, rows = self.batch, self.batch.rows()
        answers = [check(row) for row in rows]
        self._drop_found(enumerate(answers))
        num_changed = sum(isinstance(answer, Change | Split) for answer in answers)
        if not num_changed:
            return
        new = [_replace(row, answer) for row, answer in zip(rows, answers, strict=True)]
        numbers = [number for number, parts in enumerate(new) for _ in parts]
        # The first part keeps the id of the row.
        places = [place for parts in new for place in range(1, len(parts) + 1)]
        ids = [
            rows[number].id + (f"-part-{place}" if place > 1 else "")
            for number, place in zip(numbers, places, strict=True)
        ]
        self.batch = before.with_rows(numbers, ids, list(chain(*new)))
        self.counts["changed"] += Counter({item.kind: num_changed})
        self.counts["added"] += Counter({item.kind: sum(max(0, len(parts) - 1) for parts in new)})

    def _drop_found(self, answers: Iterable[tuple[int, Any]]) -> None:
        """Drop the rows with a `Drop` among their answers, each for the first one."""
        found: dict[int, Drop] = {}
        for number, answer in answers:
            if isinstance(answer, Drop):
                found.setdefault(number, answer)
        drops = dict(sorted(found.items()))
        numbers = np.array(list(drops), dtype=np.int64)
        self.drop(numbers, [drop.reason for drop in drops.values()], [drop.detail for drop in drops.values()])


def _replace(row: Any, answer: Any) -> list[Any]:
    """The messages of the rows that take the place of a row: none where it was dropped."""
    if isinstance(answer, Split):
        return list(answer.parts)
    if isinstance(answer, Drop):
        return []
    return [answer.messages if isinstance(answer, Change) else row.messages]
