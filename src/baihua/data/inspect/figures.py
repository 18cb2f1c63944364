"""Figures of a data set: lengths, scripts, languages, sources, unusual rows, dropped rows and clusters of copies.

R rows of a batch.
"""

# ruff: noqa: N803, N806  (names of arrays end with their shape)

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from baihua.core.artifact import Artifact, find_artifact
from baihua.core.errors import InputError
from baihua.data.batch import Batch
from baihua.data.inspect.char_classes import LATIN, SIMPLIFIED, TRADITIONAL
from baihua.data.inspect.copies import CopyCluster, count_reasons, find_clusters
from baihua.data.inspect.row_measures import RowMeasures, excerpt, measure, read_batches
from baihua.data.rows import DROPPED_FILE, find_table, holds_documents

FIGURES_FILE = "figures.json"
NUM_OUTLIERS = 5
CHAR_STEPS = [0, *(step * 10**power for power in range(6) for step in (1, 2, 5)), 1_000_000]
STEPS = {"turns": [*range(11), 20, 50, 100], "han_percent": [*range(0, 101, 10), 101]}
# The sizes with a histogram; the smallest and largest values of the last one are outliers.
CONVERSATION_SIZES = ("turns", "questions", "han_percent", "answers")
DOCUMENT_SIZES = ("han_percent", "text")
SCRIPTS = ("neither", "simplified", "traditional", "both")
LANGUAGES = ("zh", "en", "other")


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows with a whole number from `low` up to, but not including, `below`; None means no limit."""

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
class Outlier:
    """A row among the most extreme by some measure."""

    id: str
    file: str
    line: int
    value: float
    excerpt: str


@dataclass(frozen=True, slots=True)
class SourceShare:
    """The rows of one source, and its licence where the import recorded one."""

    name: str
    num_rows: int
    licence: str | None


@dataclass(frozen=True, slots=True)
class Balance:
    """Row counts of the stage that made the data: in + added = kept + dropped."""

    num_rows_in: int
    num_rows_kept: int
    added: dict[str, int]
    dropped: dict[str, int]

    @property
    def equation(self) -> str:
        """The counts as an equation, with ≠ where they do not add up."""
        num_added, num_dropped = sum(self.added.values()), sum(self.dropped.values())
        sign = "=" if self.num_rows_in + num_added == self.num_rows_kept + num_dropped else "≠"
        before, after = f"{self.num_rows_in:,} rows in", f"{self.num_rows_kept:,} kept"
        return f"{before} + {num_added:,} added {sign} {after} + {num_dropped:,} dropped"


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures of a data set. Each histogram, and each of `scripts` and `languages`, counts every row once.

    `histograms` are those of `turns` (conversations only), `questions` and `answers` (or `text`; in characters)
    and `han_percent` (of letters). A row's script is that of its characters that only one script has; its language
    is that of at least half of its letters. `odd` has the rows with the `lowest_han_share`, the `most_repetitive`
    (size of the compressed text divided by that of the text, from 200 bytes on), the `longest` and the `shortest`
    answers or texts, in characters.
    """

    num_rows: int
    num_chars: int
    mean_han_share: float | None
    histograms: dict[str, list[Bin]]
    scripts: dict[str, int]
    languages: dict[str, int]
    sources: list[SourceShare]
    odd: dict[str, list[Outlier]]
    counts: Balance | None
    dropped: dict[str, int]
    clusters: list[CopyCluster]


@dataclass(slots=True)
class Tally:
    """Sums over the batches read so far; `counts` holds rows by bin, script, language and source."""

    sizes: tuple[str, ...]
    num_rows: int = 0
    num_chars: int = 0
    han_share_sum: float = 0.0
    counts: defaultdict[str, Counter[Any]] = field(default_factory=lambda: defaultdict(Counter))
    odd: dict[str, list[Outlier]] = field(default_factory=dict)


def describe(path: Path) -> Figures:
    """Figures of a data artifact's folder, a part of one, or one Parquet file with the same columns."""
    file = find_table(path)
    tally = Tally(DOCUMENT_SIZES if holds_documents(file) else CONVERSATION_SIZES)
    for batch in read_batches(file):
        _add(tally, batch, measure(batch))
    dropped = file.parent / DROPPED_FILE
    # A part of an artifact is at most two folders below its manifest.
    artifact = find_artifact(file.parent, max_depth=2)
    licences = artifact.manifest.get("sources", {}) if artifact else {}
    sources = sorted(tally.counts["sources"].items(), key=lambda item: (-item[1], item[0]))
    return Figures(
        num_rows=tally.num_rows,
        num_chars=tally.num_chars,
        mean_han_share=tally.han_share_sum / tally.num_rows if tally.num_rows else None,
        histograms={name: _bins(name, tally.counts[name]) for name in tally.sizes if tally.num_rows},
        scripts={name: tally.counts["scripts"][name] for name in SCRIPTS},
        languages={name: tally.counts["languages"][name] for name in LANGUAGES},
        sources=[SourceShare(name, num_rows, licences.get(name)) for name, num_rows in sources],
        odd=tally.odd,
        counts=_balance(artifact) if artifact and artifact.folder == file.parent.resolve() else None,
        dropped=count_reasons(dropped),
        clusters=find_clusters(dropped, file),
    )


def read_figures(folder: Path) -> Figures:
    """The figures that the stage `inspect` wrote."""
    file = folder / FIGURES_FILE
    if not file.is_file():
        raise InputError(f"no {FIGURES_FILE} in this folder", where=str(folder), fix="use the output of stage inspect")
    return TypeAdapter(Figures).validate_json(file.read_text(encoding="utf-8"))


def _add(tally: Tally, batch: Batch, found: RowMeasures) -> None:
    tally.num_rows += batch.num_rows
    tally.num_chars += int(found.num_chars_RC.sum())
    tally.han_share_sum += float(found.han_share_R.sum())
    values = {"turns": found.num_turns_R, "han_percent": found.han_share_R * 100} | found.num_chars
    for name in tally.sizes:
        steps = STEPS.get(name, CHAR_STEPS)
        tally.counts[name].update((np.searchsorted(steps, values[name], side="right") - 1).tolist())
    has_R = [found.num_chars_RC[:, kind] > 0 for kind in (SIMPLIFIED, TRADITIONAL)]
    tally.counts["scripts"].update(SCRIPTS[code] for code in (has_R[0] + 2 * has_R[1]).tolist())
    is_en_R = (found.num_chars_RC[:, LATIN] * 2 >= found.num_letters_R) & (found.num_letters_R > 0)
    languages_R = np.select([found.han_share_R >= 0.5, is_en_R], LANGUAGES[:2], LANGUAGES[2])
    tally.counts["languages"].update(languages_R.tolist())
    tally.counts["sources"].update(batch.column("source"))
    _add_outliers(tally.odd, batch, found, found.num_chars[tally.sizes[-1]])


def _bins(name: str, num_rows: Counter[int]) -> list[Bin]:
    """The bins from the first to the last that have a row."""
    steps = [*STEPS.get(name, CHAR_STEPS), None]
    return [Bin(steps[n] or 0, steps[n + 1], num_rows[n]) for n in range(min(num_rows), max(num_rows) + 1)]


def _add_outliers(odd: dict[str, list[Outlier]], batch: Batch, found: RowMeasures, num_chars_R: np.ndarray) -> None:
    measures = {
        "lowest_han_share": (found.han_share_R, 1),
        "most_repetitive": (found.compression_R, 1),
        "longest": (num_chars_R, -1),
        "shortest": (num_chars_R, 1),
    }
    for name, (values_R, sign) in measures.items():
        before = odd.get(name, [])
        limit = sign * before[-1].value if len(before) == NUM_OUTLIERS else np.inf
        order_R = np.argsort(sign * values_R, kind="stable")[:NUM_OUTLIERS]
        new = [_outlier(batch, row, float(values_R[row])) for row in order_R.tolist() if sign * values_R[row] < limit]
        # Sorting is stable: of equal rows, the first of the data stays.
        odd[name] = sorted([*before, *new], key=lambda row, by=sign: by * row.value)[:NUM_OUTLIERS]


def _outlier(batch: Batch, number: int, value: float) -> Outlier:
    row = Batch(batch.table.slice(number, 1))
    row_id, file, line = (row.column(name)[0] for name in ("id", "file", "line"))
    return Outlier(row_id, file, line, value, excerpt(row.texts("all")[0].as_py()))


def _balance(artifact: Artifact) -> Balance | None:
    """The row counts of the stage that made an artifact, where it recorded any."""
    metrics = artifact.manifest.get("metrics", {})
    if "num_rows_in" not in metrics or "num_rows_kept" not in metrics:
        return None
    added, dropped = metrics.get("num_rows_added", {}), metrics.get("num_rows_dropped", {})
    return Balance(metrics["num_rows_in"], metrics["num_rows_kept"], added, dropped)
