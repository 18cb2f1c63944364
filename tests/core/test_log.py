"""Figures over time survive a kill."""

import json
from pathlib import Path

import pytest

from baihua.core.log import MetricsFile, progress_bar


def test_each_line_is_whole_as_soon_as_it_is_written(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.write(step=1, loss=2.5)
    metrics.write(step=2, note="白话")
    lines = metrics.file.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 1, "loss": 2.5}, {"step": 2, "note": "白话"}]


def test_a_resumed_run_forgets_later_lines_half_ones_and_last_measurements(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        metrics.write(step=step, loss=1.5)
    metrics.write(step=2, eval_bits_per_char=5.0)
    with metrics.file.open("a", encoding="utf-8") as stream:
        stream.write('{"other": 1}\n{"step": ')
    metrics.keep_until(2, with_key="loss")
    lines = [json.loads(line) for line in metrics.file.read_text(encoding="utf-8").splitlines()]
    assert lines == [{"step": 1, "loss": 1.5}, {"step": 2, "loss": 1.5}]


def test_nothing_is_forgotten_where_nothing_is(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.keep_until(5, with_key="loss")
    assert metrics.file.read_text(encoding="utf-8") == ""


def test_progress_without_a_terminal_is_a_line_per_tenth(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="baihua"), progress_bar("tune", 100, done=50) as bar:
        for step in range(50):
            bar.advance(figures=f"loss {step}")
    assert [record.message for record in caplog.records][-1] == "tune 100/100  loss 49"
    assert len(caplog.records) == 5
