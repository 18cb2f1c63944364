"""Tables as Markdown and as aligned text, and numbers and sizes as people read them.

Widths are terminal columns, where a Chinese character takes two.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size

MISSING = "–"
Column = tuple[str, str, str]
"""Heading of a column, the key of its figure, and how to format it: a format spec, `MB` for bytes, empty for text."""


@dataclass(frozen=True, slots=True)
class Table:
    """Column names and rows of plain values; None is a missing figure."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    right: frozenset[int] = frozenset()
    """Columns of texts that are aligned to the right; those of numbers always are."""

    @property
    def right_aligned(self) -> set[int]:
        """The columns that are aligned to the right."""
        return {at for at in range(len(self.columns)) if self._holds_numbers(at)} | self.right

    def _holds_numbers(self, at: int) -> bool:
        values = [row[at] for row in self.rows if row[at] is not None]
        return bool(values) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def figures_table(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> Table:
    """One row of text for each mapping; a figure with a standard error, `KEY_se`, is followed by it."""
    cells = [[_format_figure(row, key, form) for _, key, form in columns] for row in rows]
    right = frozenset(at for at, (_, _, form) in enumerate(columns) if form)
    return Table([heading for heading, _, _ in columns], cells, right)


def format_value(value: Any) -> str:
    """A value with thousands separators or four significant digits; an en dash where it is missing."""
    if value is None or value == "":
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def format_bytes(num_bytes: float | None) -> str:
    """A size in decimal units."""
    if num_bytes is None:
        return MISSING
    for unit, size, form in (("GB", 1e9, ".2f"), ("MB", 1e6, ".1f"), ("kB", 1e3, ".1f")):
        if num_bytes >= size:
            return f"{num_bytes / size:{form}} {unit}"
    return f"{num_bytes:.0f} B"


def render_markdown(table: Table) -> str:
    """A Markdown table whose columns line up in a fixed-width font."""
    cells = [[_escape(format_value(value)) for value in row] for row in [table.columns, *table.rows]]
    widths = [max(3, *map(cell_len, column)) for column in zip(*cells, strict=True)]
    head, *rows = _aligned(cells, widths, table.right_aligned)
    rule = ["-" * (width - 1) + (":" if at in table.right_aligned else "-") for at, width in enumerate(widths)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *rows]) + "\n"


def render_text(table: Table) -> str:
    """A table for a terminal: aligned columns with two spaces between them."""
    cells = [[format_value(value) for value in row] for row in [table.columns, *table.rows]]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(line).rstrip() for line in _aligned(cells, widths, table.right_aligned))


def pad(text: str, width: int, *, is_right: bool = False) -> str:
    """A text filled up with spaces to a width."""
    space = " " * (width - cell_len(text))
    return space + text if is_right else text + space


def shorten(text: str, width: int) -> str:
    """A text of at most this width; a longer one is cut and ends with an ellipsis."""
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 1).rstrip()}…"


def _format_figure(row: Mapping[str, Any], key: str, form: str) -> str:
    value, error = row.get(key), row.get(f"{key}_se")
    if value is None:
        return MISSING
    if form == "MB":
        return f"{value / 1e6:,.1f}"
    # An error has one significant digit where its figure has two.
    return format(value, form) + ("" if error is None else f" ± {format(error, '.1g' if form == '.2g' else form)}")


def _aligned(cells: Sequence[Sequence[str]], widths: Sequence[int], right: set[int]) -> list[list[str]]:
    return [[pad(cell, widths[at], is_right=at in right) for at, cell in enumerate(row)] for row in cells]


def _escape(text: str) -> str:
    # Backslashes come first, or a cell that ends with one would take the bar's own away.
    safe = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return safe.replace("\r\n", "\n").replace("\n", "<br>")
