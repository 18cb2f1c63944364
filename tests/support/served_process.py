"""`baihua serve` as a process of its own."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx


@contextmanager
def serving(*words: str, cwd: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its address, once it answers; killed afterwards if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "baihua", "serve", *words, "--port", "0"], cwd=cwd, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line + process.stderr.read()
        _wait_for(found[0])
        yield process, found[0]
    finally:
        process.kill()
        process.wait()


def _wait_for(url: str) -> None:
    while True:
        try:
            httpx.get(url + "/health")
            return
        except httpx.TransportError:
            time.sleep(0.05)
