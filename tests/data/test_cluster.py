"""The data stages on a Ray cluster: what comes out is what comes out here."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from cli_runs import run_apart
from fakes import talk, write_lines

pytestmark = pytest.mark.extras
FILTERS = "filters=[{kind: width}, {kind: han_share}, {kind: exact_duplicate}, {kind: near_duplicate}]"


def build(folder: Path, data: Path, *flags: str) -> dict[str, Any]:
    """Import and clean; tables and counts."""
    folder.mkdir()
    imported, cleaned = str(folder / "imported"), folder / "cleaned"
    for words in (
        ("do", "import_data", f"files=[{data}]", "bad_rows=drop", "--out", imported),
        ("do", "clean", FILTERS, "--in", f"data={imported}", "--out", str(cleaned)),
    ):
        found = run_apart(*words, *flags, cwd=folder)
        assert found.status == 0, found.err
    tables = {name: pq.read_table(cleaned / f"{name}.parquet").to_pylist() for name in ("conversations", "dropped")}
    return tables | json.loads((cleaned / "manifest.json").read_text(encoding="utf-8"))["metrics"]


def test_a_cluster_gives_what_the_local_engine_gives(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray comes with the extra `cluster`")
    rows = [talk(f"第{n % 60}个问题是什么", f"这是第{n % 60}个回答，说得很清楚，没有别的意思") for n in range(90)]
    data = write_lines(tmp_path / "a.jsonl", [*rows, "{", talk("English", "only")])
    assert build(tmp_path / "there", data, "--cluster", "local") == build(tmp_path / "here", data)
