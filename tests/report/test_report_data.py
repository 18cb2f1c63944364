import json
import re
from pathlib import Path
from typing import Any

import pytest

from baihua.core.files import write_json
from baihua.core.tables import shorten
from baihua.report.bars import COLUMN_WIDTH, MAX_NUM_COLUMNS, draw_bars
from baihua.report.reports import data

EVIL = "<script>alert(1)</script>你好"
FIGURES: dict[str, Any] = {
    "num_rows": 3,
    "num_chars": 1234,
    "mean_han_share": 0.5,
    "histograms": {"answers": [{"low": 10, "below": 20, "num_rows": 2}, {"low": 20, "below": None, "num_rows": 1}]},
    "scripts": {"neither": 0, "simplified": 2, "traditional": 1, "both": 0},
    "languages": {"zh": 3, "en": 0, "other": 0},
    "sources": [{"name": f"源{EVIL}", "num_rows": 3, "licence": None}],
    "odd": {"longest": [{"id": EVIL, "file": EVIL, "line": 7, "value": 30.0, "excerpt": EVIL}]},
    "counts": {"num_rows_in": 5, "num_rows_kept": 3, "added": {"split_long": 1}, "dropped": {"near_duplicate": 3}},
    "dropped": {"near_duplicate": 3, EVIL: 1},
    "clusters": [
        {
            "id": "0123456789abcdef",
            "num_dropped": 3,
            "excerpt": EVIL,
            "reasons": {"near_duplicate": 3},
            "examples": [{"file": EVIL, "line": 2, "detail": EVIL, "excerpt": EVIL}],
        }
    ],
}
TOPICS = [{"name": f"翻译·{EVIL}", "num_rows": 3, "mean_chars": 20.5, "num_refusals": 1, "examples": [EVIL]}]


@pytest.fixture
def inspection(tmp_path: Path) -> Path:
    write_json(tmp_path / "figures.json", FIGURES)
    write_json(tmp_path / "topics.json", TOPICS)
    manifest = {"schema": 1, "id": "0" * 64, "inputs": {"data": {"id": "f" * 64, "part": "train", "name": "清洗"}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return tmp_path


@pytest.fixture
def page(inspection: Path) -> str:
    return data.write(inspection, inspection / "report.html").read_text(encoding="utf-8")


def test_the_page_stands_alone_and_data_stays_text(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;你好" in page
    assert not re.search(r"https?://|src=|href=", page)


def test_the_page_says_what_data_it_is_and_that_the_counts_add_up(page: str) -> None:
    assert "<h1>Report of 清洗/train</h1>" in page
    assert "3 conversations, 1,234 characters; 50.0% Han among letters on average." in page
    assert "5 rows in + 1 added = 3 kept + 3 dropped." in page


def test_counts_that_do_not_add_up_are_not_called_equal(inspection: Path) -> None:
    wrong = FIGURES | {"counts": FIGURES["counts"] | {"num_rows_in": 6}}
    write_json(inspection / "figures.json", wrong)
    page = data.write(inspection, inspection / "report.html").read_text(encoding="utf-8")
    assert "6 rows in + 1 added ≠ 3 kept + 3 dropped." in page


def test_every_part_of_the_data_has_a_section(page: str) -> None:
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == ["Rows", "Topics", "Lengths", "Language and script", "Sources", "Copies", "Odd rows"]
    assert "not stated" in page
    assert "33.3%" in page


def test_markdown_has_the_bars_as_tables(inspection: Path, page: str) -> None:
    text = (inspection / "report.md").read_text(encoding="utf-8")
    assert "<script" not in text
    assert re.search(r"\| 10–19 +\| +2 \|", text)
    assert re.search(r"\| 20\+ +\| +1 \|", text)
    assert "see the curve" not in text


def test_bare_figures_make_a_page(tmp_path: Path) -> None:
    empty = {"histograms": {}, "sources": [], "odd": {}, "counts": None, "dropped": {}, "clusters": []}
    write_json(tmp_path / "figures.json", FIGURES | empty | {"num_rows": 0, "mean_han_share": None})
    page = data.write(tmp_path, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Report of the data" in page
    assert "0 conversations, 1,234 characters." in page


def test_rows_dropped_by_an_unknown_stage_are_counted_too(inspection: Path) -> None:
    write_json(inspection / "figures.json", FIGURES | {"counts": None})
    assert "These were dropped before." in data.write(inspection, inspection / "r.html").read_text(encoding="utf-8")


def test_bars_are_as_long_as_their_counts_and_labels_stay_chinese() -> None:
    svg = draw_bars([("翻译·英文", 30), ("<诗歌>", 15), ("空", 0)])
    long, short, none = (float(width) for width in re.findall(r'<rect [^>]*?width="([\d.]+)"', svg))
    assert (short, none) == (pytest.approx(long / 2, abs=0.1), 0)
    assert ">翻译·英文</text>" in svg
    assert ">&lt;诗歌&gt;</text>" in svg
    assert "30 (66.7%)" in svg


def test_no_bars_are_an_empty_picture() -> None:
    assert "<rect" not in draw_bars([])


def test_long_labels_leave_room_for_the_bars() -> None:
    svg = draw_bars([("很长的名字" * 20, 1)])
    begin = float(re.findall(r'<rect x="([\d.]+)"', svg)[0])
    assert begin < MAX_NUM_COLUMNS * COLUMN_WIDTH + 10
    assert shorten("白话文", 5) == "白话…"
    assert shorten("白话文", 6) == "白话文"
