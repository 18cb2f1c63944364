"""Damage as tables of plain values, and as Markdown for a model card."""

from collections.abc import Mapping, Sequence
from typing import Any

from baihua.core.tables import Column, Table, figures_table, render_markdown

Row = Mapping[str, Any]
Columns = Sequence[Column]
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


def tables(damage: Row) -> list[tuple[str, Table]]:
    """Title and cells of each table; figures stand with their standard errors, missing ones as a dash."""
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
        (title, figures_table(columns, rows))
        for title, columns, rows in wanted
        # What every level has says nothing about what was measured.
        if any(name in row for row in rows for _, name, _ in columns[2 if rows is not levels else len(SIZES) :])
    ]


def markdown(damage: Row) -> str:
    """The advice and every table."""
    parts = [damage["advice"]] if damage.get("advice") else []
    parts += [f"**{title}**\n\n{render_markdown(table).rstrip()}" for title, table in tables(damage)]
    return "\n\n".join(parts) + "\n"
