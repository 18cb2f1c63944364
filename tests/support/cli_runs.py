"""Run the command line in this process or in one of its own."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from baihua.cli.main import main


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout."""
        return json.loads(self.out)

    def errors(self) -> list[str]:
        """The lines of the error block; fails where there is none, or a traceback."""
        lines = self.err.splitlines()
        starts = [number for number, line in enumerate(lines) if line.startswith("error: ")]
        assert len(starts) == 1, self.err
        assert "Traceback" not in self.err
        return [line.strip() for line in lines[starts[0] :]]


def run_here(capsys: pytest.CaptureFixture[str], *words: str) -> Outcome:
    """Run a verb in this process."""
    capsys.readouterr()
    with _logger_restored(), pytest.raises(SystemExit) as caught:
        main(list(words))
    captured = capsys.readouterr()
    return Outcome(int(str(caught.value.code)), captured.out, captured.err)


def run_apart(*words: str, cwd: Path, **environment: str) -> Outcome:
    """Run a verb in a process of its own."""
    command = [sys.executable, "-m", "baihua", *words]
    found = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env=os.environ | environment, timeout=300
    )
    return Outcome(found.returncode, found.stdout, found.stderr)


@contextmanager
def _logger_restored() -> Iterator[None]:
    logger = logging.getLogger("baihua")
    state = (logger.handlers[:], logger.level, logger.propagate)
    try:
        yield
    finally:
        logger.handlers[:], logger.level, logger.propagate = state
