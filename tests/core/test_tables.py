"""Tables as Markdown and as aligned text; numbers and sizes as people read them."""

import re

import pytest
from rich.cells import cell_len

from baihua.core.tables import (
    Table,
    figures_table,
    format_bytes,
    format_value,
    render_markdown,
    render_text,
    shorten,
)

EVIL = "<script>alert(1)</script> | 你好，我是白话。\n第二行 \\"


def test_markdown_columns_line_up_with_chinese() -> None:
    lines = render_markdown(Table(["名字", "n"], [["白话 chatbot", 12_345], ["a", None], ["👋", 2.5]])).splitlines()
    assert len({cell_len(line) for line in lines}) == 1
    assert lines[1].endswith(":|") or lines[1].endswith(": |")


def test_no_cell_breaks_out_of_its_markdown_row() -> None:
    lines = render_markdown(Table(["a"], [[EVIL]])).splitlines()
    assert len(lines) == 3
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", lines[2])) == 2


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0, "0"), (True, "yes"), (12345, "12,345"), (0.123456, "0.1235"), (54321.6, "54,322"), ([1], "[1]")],
)
def test_values_are_shown_for_people(value: object, shown: str) -> None:
    assert format_value(value) == shown


@pytest.mark.parametrize(
    ("num_bytes", "shown"), [(None, "–"), (5, "5 B"), (2_500, "2.5 kB"), (7_200_000_000, "7.20 GB")]
)
def test_sizes_are_shown_in_their_unit(num_bytes: int | None, shown: str) -> None:
    assert format_bytes(num_bytes) == shown


def test_text_columns_line_up_with_chinese_and_numbers_are_to_the_right() -> None:
    lines = render_text(
        Table(["名字", "n", "x"], [["白话", 12_345, "|"], ["chat", None, "|"], ["👋", 2, "|"]])
    ).splitlines()
    assert len({cell_len(line[: line.index("|")]) for line in lines[1:]}) == 1
    assert [line.split()[1] for line in lines] == ["n", "12,345", "–", "2"]
    assert lines[3].endswith("     2  |")


@pytest.mark.parametrize(("width", "shown"), [(3, "白…"), (4, "白…"), (5, "白话…"), (6, "白话文"), (9, "白话文")])
def test_a_text_is_cut_to_a_width_between_characters(width: int, shown: str) -> None:
    assert shorten("白话文", width) == shown


def test_figures_stand_with_their_errors_and_are_aligned_to_the_right() -> None:
    columns = [("level", "level", ""), ("MB", "bytes", "MB"), ("loss", "kl", ".2g"), ("bits", "bits", ".3f")]
    table = figures_table(columns, [{"level": "q8_0", "bytes": 2_500_000, "kl": 0.0123, "kl_se": 0.0045}, {}])
    assert table.columns == ["level", "MB", "loss", "bits"]
    assert table.rows == [["q8_0", "2.5", "0.012 ± 0.004", "–"], ["–"] * 4]
    assert table.right_aligned == {1, 2, 3}
