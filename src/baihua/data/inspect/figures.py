"""Describe data in figures: how long, how Chinese, from where, which rows are odd, and what was dropped.

R rows of a batch.
"""

# ruff: noqa: N803, N806  (names of arrays end with their shape)

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from baihua.core.artifact import find_artifact
from baihua.core.errors import InputError
from baihua.data.batch import Batch
from baihua.data.inspect import letters
from baihua.data.inspect.clusters import Cluster, count_reasons, find_clusters
from baihua.data.inspect.measures import Measured, excerpt, measure, read_batches
from baihua.data.rows import DROPPED_FILE, find_table, holds_documents

FIGURES_FILE = "figures.json"
NUM_ODD = 5
CHAR_STEPS = [0, *(step * 10**power for power in range(6) for step in (1, 2, 5)), 1_000_000]
STEPS = {"turns": [*range(11), 20, 50, 100], "han_percent": [*range(0, 101, 10), 101]}
# What has a histogram; the last one's smallest and largest values are odd.
CONVERSATION_SIZES = ("turns", "questions", "han_percent", "answers")
DOCUMENT_SIZES = ("han_percent", "text")
SCRIPTS = ("neither", "simplified", "traditional", "both")
LANGUAGES = ("zh", "en", "other")


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows with a whole number from `low` up to, but not with, `below`; None is no limit."""

    low: int
    below: int | None
    num_rows: int

    @property
    def label(self) -> str:
        """The numbers in it, for people."""
        if self.below is None:
            return f"{self.low:,}+"
        return f"{self.low:,}" if self.low == self.below - 1 else f"{self.low:,}–{self.below - 1:,}"


@dataclass(frozen=True, slots=True)
class Odd:
    """A row that is among the worst by some measure."""

    id: str
    file: str
    line: int
    value: float
    excerpt: str


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows came from, and on what terms, where the import recorded them."""

    name: str
    num_rows: int
    licence: str | None


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of the stage that made the data: in + added = kept + dropped."""

    num_rows_in: int
    num_rows_kept: int
    added: dict[str, int]
    dropped: dict[str, int]

    @property
    def equation(self) -> str:
        """The counts as a sum, and whether it is right."""
        num_added, num_dropped = sum(self.added.values()), sum(self.dropped.values())
        is_right = self.num_rows_in + num_added == self.num_rows_kept + num_dropped
        return (
            f"{self.num_rows_in:,} rows in + {num_added:,} added "
            f"{'=' if is_right else '≠'} {self.num_rows_kept:,} kept + {num_dropped:,} dropped"
        )


@dataclass(frozen=True, slots=True)
class Figures:
    """All that `describe` finds. Each histogram, and each of `scripts` and `languages`, counts every row once.

    `histograms` are those of `turns` (conversations only), `questions` and `answers` (or `text`; in characters)
    and `han_percent` (of letters). A row's script is that of its characters that only one way of writing has; its
    language is that of half of its letters or more. `odd` has the rows with the `lowest_han_share`, the
    `most_repetitive` (size of the compressed text over that of the text, from 200 bytes on), the `longest` and
    the `shortest` answers or texts, in characters.
    """

    num_rows: int
    num_chars: int
    mean_han_share: float | None
    histograms: dict[str, list[Bin]]
    scripts: dict[str, int]
    languages: dict[str, int]
    sources: list[Source]
    odd: dict[str, list[Odd]]
    counts: Counts | None
    dropped: dict[str, int]
    clusters: list[Cluster]


@dataclass(slots=True)
class Tally:
    """Sums over the batches seen so far."""

    sizes: tuple[str, ...]
    num_rows: int = 0
    num_chars: int = 0
    han_share_sum: float = 0.0
    bins: dict[str, np.ndarray] = field(default_factory=dict)
    scripts: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    odd: dict[str, list[Odd]] = field(default_factory=dict)


def describe(path: Path) -> Figures:
    """Figures of a data artifact's folder, a part of one, or one Parquet file with the same columns."""
    file = find_table(path)
    tally = Tally(DOCUMENT_SIZES if holds_documents(file) else CONVERSATION_SIZES)
    for batch in read_batches(file):
        _add(tally, batch, measure(batch))
    dropped = file.parent / DROPPED_FILE
    return Figures(
        num_rows=tally.num_rows,
        num_chars=tally.num_chars,
        mean_han_share=tally.han_share_sum / tally.num_rows if tally.num_rows else None,
        histograms={name: _bins(_steps(name), counts) for name, counts in tally.bins.items()},
        scripts={name: tally.scripts[name] for name in SCRIPTS},
        languages={name: tally.languages[name] for name in LANGUAGES},
        sources=_list_sources(tally.sources, file.parent),
        odd=tally.odd,
        counts=_read_counts(file.parent),
        dropped=count_reasons(dropped),
        clusters=find_clusters(dropped, file),
    )


def read_figures(folder: Path) -> Figures:
    """The figures that the stage `inspect` wrote."""
    file = folder / FIGURES_FILE
    if not file.is_file():
        raise InputError("there are no figures here", where=str(folder), fix="use the output of the stage inspect")
    return TypeAdapter(Figures).validate_json(file.read_text(encoding="utf-8"))


def _add(tally: Tally, batch: Batch, found: Measured) -> None:
    tally.num_rows += batch.num_rows
    tally.num_chars += int(found.num_chars_R.sum())
    tally.han_share_sum += float(found.han_share_R.sum())
    values = {"turns": found.num_turns_R, "han_percent": found.han_share_R * 100} | found.num_chars
    for name in tally.sizes:
        tally.bins[name] = tally.bins.get(name, 0) + _count_bins(values[name], _steps(name))
    tally.scripts.update(_list_scripts(found))
    tally.languages.update(_list_languages(found))
    tally.sources.update(batch.column("source"))
    _add_odd(tally.odd, batch, found, found.num_chars[tally.sizes[-1]])


def _steps(name: str) -> list[int]:
    return STEPS.get(name, CHAR_STEPS)


def _count_bins(values_R: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    return np.bincount(np.searchsorted(steps, values_R, side="right") - 1, minlength=len(steps))


def _bins(steps: Sequence[int], counts: np.ndarray) -> list[Bin]:
    """The bins from the first to the last that hold a row."""
    highs = [*steps[1:], None]
    filled = np.flatnonzero(counts)
    bins = zip(steps, highs, counts.tolist(), strict=True)
    return [Bin(low, below, num_rows) for low, below, num_rows in bins][filled.min() : filled.max() + 1]


def _list_scripts(found: Measured) -> list[str]:
    has_R = [found.letters_RC[:, kind] > 0 for kind in (letters.SIMPLIFIED, letters.TRADITIONAL)]
    return [SCRIPTS[code] for code in (has_R[0] + 2 * has_R[1]).tolist()]


def _list_languages(found: Measured) -> list[str]:
    num_letters_R = found.letters_RC[:, letters.OTHER :].sum(1)
    is_zh_R = (found.han_share_R >= 0.5).tolist()
    is_en_R = ((found.letters_RC[:, letters.LATIN] * 2 >= num_letters_R) & (num_letters_R > 0)).tolist()
    return ["zh" if is_zh else "en" if is_en else "other" for is_zh, is_en in zip(is_zh_R, is_en_R, strict=True)]


def _add_odd(odd: dict[str, list[Odd]], batch: Batch, found: Measured, num_chars_R: np.ndarray) -> None:
    measures = {
        "lowest_han_share": (found.han_share_R, 1),
        "most_repetitive": (found.squeezed_R, 1),
        "longest": (num_chars_R, -1),
        "shortest": (num_chars_R, 1),
    }
    for name, (values_R, sign) in measures.items():
        before = odd.get(name, [])
        limit = sign * before[-1].value if len(before) == NUM_ODD else np.inf
        order_R = np.argsort(sign * values_R, kind="stable")[:NUM_ODD]
        worse = [_odd(batch, at, float(values_R[at])) for at in order_R.tolist() if sign * values_R[at] < limit]
        # Sorting is stable: of rows that are alike, the first of the data stays.
        odd[name] = sorted([*before, *worse], key=lambda row, by=sign: by * row.value)[:NUM_ODD]


def _odd(batch: Batch, at: int, value: float) -> Odd:
    row = Batch(batch.table.slice(at, 1))
    row_id, file, line = (row.column(name)[0] for name in ("id", "file", "line"))
    return Odd(row_id, file, line, value, excerpt(row.texts("all")[0].as_py()))


def _list_sources(num_rows: Counter[str], folder: Path) -> list[Source]:
    made = find_artifact(folder)
    licences = made.sources if made else {}
    names = sorted(num_rows, key=lambda name: (-num_rows[name], name))
    return [Source(name, num_rows[name], licences.get(name)) for name in names]


def _read_counts(folder: Path) -> Counts | None:
    """The counts of the stage that made all of this folder; a part has none of its own."""
    made = find_artifact(folder, max_depth=0)
    metrics = made.manifest["metrics"] if made else {}
    if "num_rows_in" not in metrics or "num_rows_kept" not in metrics:
        return None
    added, dropped = metrics.get("num_rows_added", {}), metrics.get("num_rows_dropped", {})
    return Counts(metrics["num_rows_in"], metrics["num_rows_kept"], added, dropped)
