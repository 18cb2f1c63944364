"""The report of an inspection: statistics of the data, dropped rows, and rows worth a look."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from baihua.core.artifact import find_artifact
from baihua.core.files import write_text
from baihua.core.tables import Table, format_value, shorten
from baihua.data.inspect.figures import Figures, Outlier, read_figures
from baihua.data.inspect.topics import Topic, read_topics
from baihua.report.bars import draw_bars
from baihua.report.page import Page, Reply, Section, table_section, to_html, to_markdown

# A topic's examples share one cell.
NUM_EXAMPLE_COLUMNS = 60
HISTOGRAMS = {
    "questions": "Characters of the questions of a row",
    "answers": "Characters of the answers of a row",
    "text": "Characters of a document",
    "turns": "Turns of a conversation, questions and answers",
    "han_percent": "Percent of Han characters among the letters of a row",
}
ODD = {
    "lowest_han_share": ("Lowest share of Han characters among letters", "Han share"),
    "most_repetitive": ("Most repetitive: compressed size over size, texts from 200 bytes on", "compressed"),
    "longest": ("Longest answers or documents", "characters"),
    "shortest": ("Shortest answers or documents", "characters"),
}
LANGUAGES = {"zh": "Chinese", "en": "English or other Latin", "other": "other"}
LANGUAGE_TITLE = "Language of at least half of the letters"
SCRIPT_TITLE = "Rows with characters of only one way of writing Chinese"
SCRIPTS = {"neither": "neither, or no Han"}


def write(inspection: Path, file: Path) -> Path:
    """Write the report of an inspection as an HTML page and as Markdown; returns the page."""
    figures, topics = read_figures(inspection), read_topics(inspection)
    made = find_artifact(inspection, max_depth=0)
    given = made.manifest["inputs"].get("data", {}) if made else {}
    title = f"Report of {'/'.join(filter(None, (given.get('name'), given.get('part')))) or 'the data'}"
    what = "documents" if "text" in figures.histograms else "conversations"
    han = f"; {figures.mean_han_share:.1%} Han among letters on average" if figures.mean_han_share is not None else ""
    subtitle = f"{figures.num_rows:,} {what}, {figures.num_chars:,} characters{han}."
    for target, render, has_bars in ((file, to_html, True), (file.with_suffix(".md"), to_markdown, False)):
        sections = list(_sections(figures, topics, has_bars=has_bars))
        write_text(target, render(Page(title, subtitle, sections)))
    return file


def _sections(figures: Figures, topics: Sequence[Topic], *, has_bars: bool) -> Iterator[Section]:
    tables = [("By reason", Table(["dropped because", "rows"], list(figures.dropped.items())))]
    if figures.counts:
        yield Section("Rows", f"{figures.counts.equation}.", tables=tables if figures.dropped else [])
    elif figures.dropped:
        yield Section("Rows", "These were dropped before.", tables=tables)
    yield from _topics(topics, has_bars=has_bars)
    lengths = {HISTOGRAMS[name]: [(b.label, b.num_rows) for b in bins] for name, bins in figures.histograms.items()}
    yield _charts("Lengths", lengths, has_bars)
    languages = [(LANGUAGES[name], count) for name, count in figures.languages.items()]
    scripts = [(SCRIPTS.get(name, name), count) for name, count in figures.scripts.items()]
    yield _charts("Language and script", {LANGUAGE_TITLE: languages, SCRIPT_TITLE: scripts}, has_bars)
    rows = [[source.name, source.num_rows, source.licence or "not stated"] for source in figures.sources]
    yield from table_section("Sources", ["source", "rows", "licence"], rows)
    yield from _copies(figures)
    odd = [(ODD[name], rows) for name, rows in figures.odd.items() if rows]
    if odd:
        tables = [(title, _odd_rows(measure, rows)) for (title, measure), rows in odd]
        yield Section("Odd rows", "The first five of each kind. They need not be wrong.", tables=tables)


def _charts(title: str, charts: dict[str, list[tuple[str, int]]], has_bars: bool) -> Section:
    """Counts as bars, or as tables in Markdown."""
    if has_bars:
        return Section(title, curves=[(name, draw_bars(bars)) for name, bars in charts.items()])
    return Section(title, tables=[(name, Table(["", "rows"], bars)) for name, bars in charts.items()])


def _topics(topics: Sequence[Topic], *, has_bars: bool) -> Iterator[Section]:
    rows: list[list[Any]] = []
    for topic in topics:
        refusals = None if topic.num_refusals is None else f"{topic.num_refusals / topic.num_rows:.1%}"
        examples = " ／ ".join(shorten(text, NUM_EXAMPLE_COLUMNS) for text in topic.examples)
        rows.append([topic.name, topic.num_rows, round(topic.mean_chars), refusals, examples])
    note = (
        "Rows with similar questions, named by the words that distinguish them from the others. "
        "The filter `topic` drops a topic by its name."
    )
    curves = [("Rows by topic", draw_bars([(t.name, t.num_rows) for t in topics]))] if has_bars else []
    columns = ["topic", "rows", "mean characters", "refusals", "examples"]
    return table_section("Topics", columns, rows, note, curves=curves)


def _copies(figures: Figures) -> Iterator[Section]:
    note = "The rows with the most dropped copies, each with some of these copies."
    rows = [[c.id, c.num_dropped, ", ".join(f"{k} {n:,}" for k, n in c.reasons.items())] for c in figures.clusters]
    replies = [
        Reply(
            f"{cluster.num_dropped:,} × {cluster.excerpt or '(this row was dropped later)'}",
            [(f"{copy.file}:{copy.line} {copy.detail}", copy.excerpt) for copy in cluster.examples],
        )
        for cluster in figures.clusters
    ]
    return table_section("Copies", ["kept row", "dropped", "because"], rows, note, replies=replies)


def _odd_rows(measure: str, rows: Sequence[Outlier]) -> Table:
    found = [[format_value(row.value), f"{row.file}:{row.line}", row.id, row.excerpt] for row in rows]
    return Table([measure, "where", "id", "text"], found)
