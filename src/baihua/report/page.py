"""A report as sections of notes, tables, curves and replies, written as one HTML page or as Markdown."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup, escape

from baihua.core.tables import Table, format_value, render_markdown


@dataclass(frozen=True, slots=True)
class Reply:
    """A question and the answers to it, as pairs of label and answer."""

    question: str
    answers: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a report; tables and curves come with titles, and curves are `<svg>` elements."""

    title: str
    note: str = ""
    tables: Sequence[tuple[str, Table]] = ()
    curves: Sequence[tuple[str, str]] = ()
    replies: Sequence[Reply] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report."""

    title: str
    subtitle: str
    sections: Sequence[Section]


def table_section(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "", **more: Any
) -> Iterator[Section]:
    """A section with one table; none without rows."""
    if rows:
        yield Section(title, note, tables=[("", Table(columns, rows))], **more)


def to_html(page: Page) -> str:
    """One self-contained page: no script, and no reference to another file or address."""
    # Autoescape keeps a model's "<script>" on the page as text.
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    text = resources.files("baihua.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(text).render(page=page, table=table_html, svg=Markup) + "\n"


def table_html(table: Table) -> Markup:
    """A table with everything in it escaped; the class `number` aligns cells to the right."""
    head = "".join(_cell("th", name, at in table.right_aligned) for at, name in enumerate(table.columns))
    rows = ["".join(_cell("td", value, at in table.right_aligned) for at, value in enumerate(r)) for r in table.rows]
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return Markup(
        f'<div class="table"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )


def _cell(tag: str, value: Any, is_number: bool) -> Markup:
    style = Markup(' class="number"') if is_number else ""
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), style, escape(format_value(value)))


def to_markdown(page: Page) -> str:
    """The same report in Markdown; curves are only in the HTML."""
    parts = [f"# {_plain(page.title)}", _plain(page.subtitle)]
    for section in page.sections:
        parts += [f"## {section.title}", *_section_parts(section)]
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _section_parts(section: Section) -> Iterator[str]:
    yield _plain(section.note)
    for title, table in section.tables:
        yield f"**{_plain(title)}**" if title else ""
        yield render_markdown(table)
    for title, _ in section.curves:
        yield f"*{_plain(title)}: see the curve in report.html.*"
    for reply in section.replies:
        for name, text in (("Question", reply.question), *reply.answers):
            yield f"**{_plain(name)}**\n\n" + "\n".join(f"> {_plain(line)}" for line in text.splitlines() or ["–"])


def _plain(text: str) -> str:
    return html.escape(text, quote=False)
