"""Run a command and watch what it needs: seconds, and the most memory of it and all its children."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

SECONDS_BETWEEN_LOOKS = 0.2


@dataclass(frozen=True, slots=True)
class Needed:
    """What a command took. Memory is the sum of resident sets: pages that processes share count for each."""

    seconds: float
    peak_bytes: int
    output: dict[str, Any]


def watch(command: list[str]) -> Needed:
    """Run a command that prints one JSON object; a failure ends the bench with its message."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, resident_bytes(process.pid))
            time.sleep(SECONDS_BETWEEN_LOOKS)
        seconds = time.perf_counter() - start
        out, err = process.communicate()
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{err}")
    return Needed(seconds, peak, json.loads(out))


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and all below it."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            total += process.memory_info().rss
    except psutil.NoSuchProcess:
        return total
    return total


def do(stage: str, *settings: str, out: Path, **inputs: Path) -> Needed:
    """`baihua do STAGE` in a separate process."""
    given = [word for role, path in inputs.items() for word in ("--in", f"{role}={path}")]
    return watch([sys.executable, "-m", "baihua", "do", stage, *settings, *given, "--out", str(out), "--json"])
