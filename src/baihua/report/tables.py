"""Rows become a Markdown table that lines up in Chinese too, and an HTML table."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape
from rich.cells import cell_len

MISSING = "–"


@dataclass(frozen=True, slots=True)
class Table:
    """Column names and rows of plain values; None is a figure that is missing."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def show(value: Any) -> str:
    """A value as people read it: thousands apart, four significant digits, an en dash where it is missing."""
    if value is None or value == "":
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def show_bytes(num_bytes: int | None) -> str:
    """A size in the unit that suits it."""
    if num_bytes is None:
        return MISSING
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} B"


def markdown(table: Table) -> str:
    """A Markdown table whose columns line up in a fixed-width font, a Chinese character being two wide."""
    cells = [[_markdown_cell(show(value)) for value in row] for row in [table.columns, *table.rows]]
    widths = [max(3, *(cell_len(row[at]) for row in cells)) for at in range(len(table.columns))]
    numeric = _numeric_columns(table)
    rule = ["-" * (width - 1) + (":" if at in numeric else "-") for at, width in enumerate(widths)]
    lines = [[_pad(cell, widths[at], at in numeric) for at, cell in enumerate(row)] for row in cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]]) + "\n"


def html(table: Table) -> Markup:
    """An HTML table, everything in it escaped; numbers are aligned by the class `number`."""
    numeric = _numeric_columns(table)
    head = "".join(_html_cell("th", name, at in numeric) for at, name in enumerate(table.columns))
    body = "\n".join(
        "<tr>" + "".join(_html_cell("td", value, at in numeric) for at, value in enumerate(row)) + "</tr>"
        for row in table.rows
    )
    return Markup(
        f'<div class="table"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )


def _numeric_columns(table: Table) -> set[int]:
    """Columns that hold numbers, or nothing."""
    kinds = [{type(row[at]) for row in table.rows if row[at] is not None} for at in range(len(table.columns))]
    return {at for at, found in enumerate(kinds) if found and found <= {int, float}}


def _markdown_cell(text: str) -> str:
    # Backslashes come first, or a cell that ends with one would take the bar's own away.
    safe = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return safe.replace("\r\n", "\n").replace("\n", "<br>")


def _pad(cell: str, width: int, is_right: bool) -> str:
    space = " " * (width - cell_len(cell))
    return space + cell if is_right else cell + space


def _html_cell(tag: str, value: Any, is_number: bool) -> Markup:
    style = Markup(' class="number"') if is_number else ""
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), style, escape(show(value)))
