"""Damage as tables of plain values, and as Markdown for a model card."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Columns = Sequence[tuple[str, str, str]]
"""Heading, figure and format of each column."""
SIZES: Columns = (("level", "level", ""), ("MB", "file_bytes", "MB"), ("bits/weight", "bits_per_weight", ".2f"))
SPEEDS: Columns = (
    ("prompt tokens/s", "prompt_tokens_per_second", ".1f"),
    ("tokens/s", "tokens_per_second", ".1f"),
    ("characters/s", "chars_per_second", ".1f"),
    ("peak MB", "peak_memory_bytes", "MB"),
)
REPLIES: Columns = (
    ("replies", "num_replies", "d"),
    ("changed", "changed_reply_share", ".0%"),
    ("edit distance", "mean_edit_distance", ".1%"),
)
MISSING = "–"


def losses(suffix: str) -> Columns:
    """The columns of one language, or of a category with an empty suffix."""
    return (
        ("texts", f"num_texts{suffix}", "d"),
        ("bits/character", f"bits_per_char{suffix}", ".3f"),
        ("of the reference's", f"bits_per_char_ratio{suffix}", ".4f"),
        ("mean KL", f"mean_kl{suffix}", ".2g"),
        ("median", f"median_kl{suffix}", ".2g"),
        ("99 %", f"p99_kl{suffix}", ".2g"),
        ("largest", f"max_kl{suffix}", ".2g"),
        ("same top token", f"same_top_share{suffix}", ".1%"),
    )


def tables(damage: Row) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, headings and cells of each table; figures stand with their standard errors, missing ones as a dash."""
    levels: Sequence[Row] = damage["levels"]
    category: Columns = (("category", "category", ""), ("level", "level", ""))
    wanted = [
        ("Chinese text", (*SIZES, *losses("_zh")), levels),
        ("English text", (*SIZES, *losses("_en")), levels),
        ("Greedy replies", (*SIZES[:1], *REPLIES), levels),
        ("Speed and memory on the machine that measured", (*SIZES, *SPEEDS), levels),
        ("By category of the questions", (*category, *losses(""), *REPLIES), damage.get("categories", [])),
    ]
    return [
        (
            title,
            [heading for heading, _, _ in columns],
            [[_cell(row, *column[1:]) for column in columns] for row in rows],
        )
        for title, columns, rows in wanted
        # What every level has says nothing about what was measured.
        if any(name in row for row in rows for _, name, _ in columns[2 if rows is not levels else len(SIZES) :])
    ]


def markdown(damage: Row) -> str:
    """The advice and every table."""
    parts = [damage["advice"]] if damage.get("advice") else []
    for title, headings, rows in tables(damage):
        lines = [headings, ["---"] * len(headings), *rows]
        parts.append(f"**{title}**\n\n" + "\n".join("| " + " | ".join(map(_plain, line)) + " |" for line in lines))
    return "\n\n".join(parts) + "\n"


def _cell(row: Row, name: str, form: str) -> str:
    if name not in row:
        return MISSING
    value, error = row[name], row.get(f"{name}_se")
    if form == "MB":
        return f"{value / 1e6:,.1f}"
    return format(value, form) + (f" ± {format(error, _error_form(form))}" if error is not None else "")


def _error_form(form: str) -> str:
    return ".1g" if form == ".2g" else form


def _plain(text: str) -> str:
    return text.replace("|", "\\|")
