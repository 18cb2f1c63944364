"""The environment is read in one place, and secrets are never recorded."""

import os
import re
from pathlib import Path

import pytest

import baihua
from baihua.core.env import forbid_telemetry, numeric_settings


def test_only_one_module_reads_the_environment() -> None:
    root = Path(baihua.__file__).parent
    readers = [
        file for file in root.rglob("*.py") if re.search(r"os\.environ|getenv", file.read_text(encoding="utf-8"))
    ]
    assert [file.relative_to(root).as_posix() for file in readers] == ["core/env.py"]


def test_numeric_settings_are_those_that_are_set() -> None:
    variables = {"OMP_NUM_THREADS": "2", "HOME": "somewhere", "HF_TOKEN": "secret"}
    assert numeric_settings(variables) == {"OMP_NUM_THREADS": "2"}


def test_no_library_reports_its_use(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DO_NOT_TRACK", "DAFT_ANALYTICS_ENABLED", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "x")
    forbid_telemetry()
    from daft.scarf_telemetry import opted_out

    assert opted_out()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
