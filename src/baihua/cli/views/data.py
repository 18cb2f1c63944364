"""Statistics of a data set on a terminal."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from rich.cells import cell_len

from baihua.cli.options import print_json
from baihua.core.tables import format_value, pad, shorten
from baihua.data.inspect.figures import Figures, describe
from baihua.report.reports.data import HISTOGRAMS, LANGUAGES, ODD, SCRIPTS

NUM_BAR_COLUMNS = 32
NUM_LABEL_COLUMNS = 30
NUM_TEXT_COLUMNS = 70


def print_stats(path: Path, *, as_json: bool) -> None:
    """Sizes, languages, sources and odd rows of a data artifact, or of a part of one."""
    figures = describe(path)
    if as_json:
        print_json(asdict(figures))
    else:
        print("\n".join(_lines(figures)))


def _lines(figures: Figures) -> Iterator[str]:
    mean = format_value(figures.mean_han_share)
    yield f"{figures.num_rows:,} rows, {figures.num_chars:,} characters, mean Han share {mean}"
    if figures.counts:
        yield figures.counts.equation
    for name, bins in figures.histograms.items():
        yield from _bars(HISTOGRAMS[name], {found.label: found.num_rows for found in bins})
    yield from _bars("Language", {LANGUAGES[name]: count for name, count in figures.languages.items()})
    yield from _bars("Script", {SCRIPTS.get(name, name): count for name, count in figures.scripts.items()})
    yield from _bars("Sources", {f"{s.name} ({s.licence or 'no licence stated'})": s.num_rows for s in figures.sources})
    yield from _bars("Dropped", figures.dropped)
    for cluster in figures.clusters:
        head = f"{cluster.num_dropped:,} dropped as copies of {cluster.id}"
        yield _entry(head, cluster.excerpt or format_value(None))
    for name, rows in figures.odd.items():
        if rows:
            yield f"\n{ODD[name][0]}"
        for row in rows:
            yield _entry(f"  {format_value(row.value)}  {row.file}:{row.line}", row.excerpt)


def _bars(title: str, counts: Mapping[str, int]) -> Iterator[str]:
    """Counts as bars; any count above zero shows at least an eighth of a block."""
    if not counts:
        return
    yield f"\n{title}"
    labels = [shorten(label, NUM_LABEL_COLUMNS) for label in counts]
    width, largest = max(map(cell_len, labels)), max(1, *counts.values())
    for label, count in zip(labels, counts.values(), strict=True):
        num_eighths = -(-count * NUM_BAR_COLUMNS * 8 // largest)
        bar = "█" * (num_eighths // 8) + " ▏▎▍▌▋▊▉"[num_eighths % 8].strip()
        yield f"  {pad(label, width, is_right=True)} {bar} {count:,}"


def _entry(head: str, text: str) -> str:
    return f"{head}\n      {shorten(text, NUM_TEXT_COLUMNS)}"
