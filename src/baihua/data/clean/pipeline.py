"""Filters one after the other over rows of any number.

Filters that look at one row at a time run together, shard by shard, in all processes or on a cluster. A filter that
must see the whole table (duplicates) stands between two such steps: it marks rows, and the next step drops them.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from baihua.core import kinds
from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.data.batch import Batch
from baihua.data.clean.contract import Change, Drop, Split
from baihua.data.clean.expressions import evaluate, text_column
from baihua.data.clean.marks import save_marks
from baihua.data.clean.stored_table import StoredTable
from baihua.data.rows import DROPPED_SCHEMA
from baihua.data.shards import Source, kept_file, write_shard
from baihua.data.workers import Call, Piece, run_pieces

FILTERS = "baihua.data.filters"
# A text that a change has emptied would leave a turn without words.
EMPTIED = "empty_text"


@dataclass(frozen=True, slots=True)
class Tools:
    """What filters may need beyond their config: the folder of a model, one of topics, and a template's name."""

    model: str | None = None
    topics: str | None = None
    template: str = "model"


@dataclass
class Counts:
    """What became of rows, by reason."""

    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    added: Counter[str] = field(default_factory=Counter)


def run_filters(
    sources: Sequence[Source], filters: Sequence[Base], work: Path, *, tools: Tools, cluster: str | None
) -> tuple[list[list[Path]], Counts]:
    """Shards of each step, the last of which holds the kept rows, and counts of them all."""
    steps: list[list[Path]] = []
    total = Counts()
    marks: Path | None = None
    for number, (row_filters, table_filter) in enumerate(_steps(filters)):
        folder = work / f"step-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        arguments = {"filters": [item.model_dump() for item in row_filters], "tools": asdict(tools)}
        pieces = [
            Piece(folder / f"{n:05}", {"source": asdict(source), "marks": str(marks / f"{n:05}") if marks else None})
            for n, source in enumerate(sources)
        ]
        num_rows = 0
        for result in run_pieces(Call(__name__, "filter_piece", arguments), pieces, cluster=cluster):
            num_rows += result["num_rows"]
            _add(total, result)
        steps.append([piece.out for piece in pieces])
        sources = [Source(str(kept_file(piece.out))) for piece in pieces]
        if table_filter is not None:
            table = StoredTable(steps[-1], num_rows, folder / "table", cluster)
            marks = save_marks(_module(table_filter).check_table(table, table_filter), steps[-1], folder / "marks")
    return steps, total


def check_needs(filters: Sequence[Base], tools: Tools) -> None:
    """Refuse filters that need what was not given, before any work."""
    given = {"count_tokens": tools.model, "topics": tools.topics}
    roles = {"count_tokens": "model", "topics": "topics"}
    for item in filters:
        for need in _needs(item):
            if given[need] is None:
                raise InputError(
                    f"the filter {_kind(item)!r} needs the input {roles[need]!r}",
                    where=f"filters: {_kind(item)}",
                    fix=f"add {roles[need]} to the stage's inputs (--in {roles[need]}=PATH)",
                )
        if "check_topics" in vars(_module(item)):
            _module(item).check_topics(item, set(_topics(tools).values()))


def filter_piece(
    *, out: Path, source: dict[str, Any], marks: str | None, filters: list[dict[str, Any]], tools: dict[str, Any]
) -> dict[str, Any]:
    """Run row filters over one shard; the counts."""
    work = _Work(Batch(Source(**source).read()))
    if marks is not None:
        _apply_marks(work, marks)
    for item in filters:
        module = kinds.find(FILTERS, item["kind"])
        _apply(work, module, module.Config.model_validate(item), Tools(**tools))
    if work.counts.changed:
        _drop_emptied(work)
    write_shard(out, work.batch.table, pa.concat_tables([DROPPED_SCHEMA.empty_table(), *work.dropped]))
    counts = work.counts
    return {
        "num_rows": work.batch.num_rows,
        "dropped": counts.dropped,
        "changed": counts.changed,
        "added": counts.added,
    }


class _Work:
    """A shard while filters run over it."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.dropped: list[pa.Table] = []
        self.counts = Counts()

    def drop(self, numbers: np.ndarray, reasons: Sequence[str], details: Sequence[str]) -> None:
        """Take rows out, each with its reason."""
        if len(numbers):
            is_kept = np.ones(self.batch.num_rows, dtype=bool)
            is_kept[numbers] = False
            self.dropped.append(self.batch.filter(~is_kept).as_dropped(reasons, details))
            self.batch = self.batch.filter(is_kept)
            self.counts.dropped.update(reasons)


def _apply(work: _Work, module: ModuleType, config: Base, tools: Tools) -> None:
    """Run the one function of a filter."""
    functions, part = vars(module), vars(config).get("part", "all")
    extra = {need: TOOLS[need](tools) for need in _needs(config)}
    if "drop_where" in functions:
        texts, rows = work.batch.texts(part), np.arange(work.batch.num_rows)
        if functions.get("IS_PER_MESSAGE", False):
            texts, rows = work.batch.message_texts(part)
        _drop_where(work, module.drop_where(text_column(), config), texts, rows)
    elif "change" in functions:
        expression = module.change(text_column(), config)
        _change(work, _kind(config), lambda texts: evaluate(expression, texts))
    elif "change_text" in functions:
        _change(work, _kind(config), lambda texts: _map(lambda text: module.change_text(text, config), texts))
    elif "check_text" in functions:
        _check(work, [module.check_text(text, config) for text in work.batch.texts(part).to_pylist()])
    elif "check_meta" in functions:
        _check(work, [module.check_meta(meta, config) for meta in work.batch.metas()])
    elif "check_id" in functions:
        _check(work, [module.check_id(row_id, config, **extra) for row_id in work.batch.column("id")])
    else:
        _rewrite(work, _kind(config), [module.check_row(row, config, **extra) for row in work.batch.rows()])


def _drop_where(work: _Work, found: Any, texts: pa.StringArray, rows: np.ndarray) -> None:
    """Drop the rows of texts that meet a condition; `rows` are the rows' numbers, in order."""
    is_dropped = evaluate(found.condition, texts)
    hits = np.flatnonzero(pc.fill_null(is_dropped, False).to_numpy(zero_copy_only=False))
    numbers, first = np.unique(rows[hits], return_index=True)
    if len(numbers):
        details = pc.cast(evaluate(found.detail, texts.take(pa.array(hits[first]))), pa.string())
        work.drop(numbers, [found.reason] * len(numbers), pc.fill_null(details, "").to_pylist())


def _change(work: _Work, kind: str, change: Callable[[pa.StringArray], pa.StringArray]) -> None:
    work.batch, num_changed = work.batch.change(change)
    work.counts.changed.update({kind: num_changed} if num_changed else {})


def _check(work: _Work, verdicts: Sequence[Any]) -> None:
    found = [(number, verdict) for number, verdict in enumerate(verdicts) if isinstance(verdict, Drop)]
    numbers = np.array([number for number, _ in found], dtype=np.int64)
    work.drop(numbers, [drop.reason for _, drop in found], [drop.detail for _, drop in found])


def _rewrite(work: _Work, kind: str, verdicts: Sequence[Any]) -> None:
    """Drop, change and split rows."""
    before = work.batch
    _check(work, verdicts)
    stay = [(number, verdict) for number, verdict in enumerate(verdicts) if not isinstance(verdict, Drop)]
    if not any(isinstance(verdict, Change | Split) for _, verdict in stay):
        return
    numbers: list[int] = []
    ids: list[str] = []
    rows: list[Any] = []
    old_ids, old_rows = before.column("id"), list(before.rows())
    for number, verdict in stay:
        parts = _parts(verdict, old_rows[number])
        numbers += [number] * len(parts)
        # A part is found by its row's id; the first one keeps it.
        ids += [old_ids[number] + (f"-part-{n}" if n > 1 else "") for n in range(1, len(parts) + 1)]
        rows += parts
        work.counts.changed[kind] += isinstance(verdict, Change | Split)
        work.counts.added[kind] += len(parts) - 1
    work.batch = before.with_rows(numbers, ids, rows)


def _parts(verdict: Any, row: Any) -> list[Any]:
    if isinstance(verdict, Split):
        return list(verdict.parts)
    return [verdict.messages if isinstance(verdict, Change) else row]


def _drop_emptied(work: _Work) -> None:
    numbers = work.batch.find_emptied()
    work.drop(numbers, [EMPTIED] * len(numbers), ["a filter left a message without words"] * len(numbers))


def _apply_marks(work: _Work, stem: str) -> None:
    """Put rows into the groups that a table filter found, and drop those that it marked."""
    groups = pq.read_table(f"{stem}.groups.parquet")
    if groups.num_rows:
        column = work.batch.table["group"].to_numpy(zero_copy_only=False).copy()
        column[groups["row"].to_numpy()] = groups["group"].to_pylist()
        work.batch = work.batch.with_groups(pa.array(column, pa.string()))
    dropped = pq.read_table(f"{stem}.dropped.parquet")
    work.drop(dropped["row"].to_numpy(), dropped["reason"].to_pylist(), dropped["detail"].to_pylist())


def _map(function: Callable[[str], str], texts: pa.StringArray) -> pa.StringArray:
    return pa.array([function(text) for text in texts.to_pylist()], pa.string())


def _steps(filters: Sequence[Base]) -> list[tuple[list[Base], Base | None]]:
    """Row filters up to each table filter; the last step has none behind it."""
    steps: list[tuple[list[Base], Base | None]] = []
    waiting: list[Base] = []
    for item in filters:
        if "check_table" in vars(_module(item)):
            steps.append((waiting, item))
            waiting = []
        else:
            waiting.append(item)
    return [*steps, (waiting, None)]


def _add(counts: Counts, result: Mapping[str, Any]) -> None:
    counts.dropped.update(result["dropped"])
    counts.changed.update(result["changed"])
    counts.added.update({kind: number for kind, number in result["added"].items() if number})


def _module(config: Base) -> ModuleType:
    return kinds.find(FILTERS, _kind(config))


def _kind(config: Base) -> str:
    return vars(config)["kind"]


def _needs(config: Base) -> tuple[str, ...]:
    return vars(_module(config)).get("NEEDS", ())


@cache
def _count_tokens(tools: Tools) -> Callable[[Sequence[Any]], int]:
    """Tokens of rendered messages, by the model's own tokenizer and template."""
    from baihua.chat.template import token_counter

    return token_counter(Path(tools.model or ""), template=tools.template)


@cache
def _topics(tools: Tools) -> Mapping[str, str]:
    table = pq.read_table(Path(tools.topics or "") / "topics.parquet")
    return dict(zip(table["id"].to_pylist(), table["topic"].to_pylist(), strict=True))


TOOLS: dict[str, Callable[[Tools], Any]] = {"count_tokens": _count_tokens, "topics": _topics}
