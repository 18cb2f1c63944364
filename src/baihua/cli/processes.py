"""Run a verb in several processes that train together: start them, wait for them, and report what failed."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import typer

from baihua.core.env import expected_processes, variables_for_child
from baihua.core.errors import LostPeerError, RunError
from baihua.core.log import set_up
from baihua.core.stage import Announce, find_stage
from baihua.core.system import free_port

# How long the other processes may take to notice that one is gone, and to save their work.
SECONDS_OF_GRACE = 30.0


def run_together(work: Callable[[Announce | None], None], *, processes: int | None, debug: bool) -> None:
    """Do a verb's work: alone, as one of several processes, or by starting `processes` copies of this command."""
    if expected_processes() > 1:
        _join(work, debug=debug)
    elif processes is not None and processes > 1:
        raise typer.Exit(start(processes, sys.argv[1:]))
    else:
        work(None)


def start(num_processes: int, words: Sequence[str]) -> int:
    """Run this command in several processes on this machine; returns one exit status for all."""
    with tempfile.TemporaryDirectory() as folder:
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        sizes = {"WORLD_SIZE": str(num_processes), "LOCAL_WORLD_SIZE": str(num_processes)}
        shared = variables_for_child(BAIHUA_REPORT_TO=folder, **address, **sizes)
        # Threads that wait for each other on too few cores are many times slower than too few threads.
        shared.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num_processes)))
        command = [sys.executable, "-m", "baihua", *words]
        ranks = [{"RANK": str(number), "LOCAL_RANK": str(number)} for number in range(num_processes)]
        # In separate sessions, or Ctrl-C would reach them twice: from the terminal and from here.
        children = [subprocess.Popen(command, env=shared | rank, start_new_session=True) for rank in ranks]

        def forward(number: int, frame: FrameType | None) -> None:
            for child in children:
                child.send_signal(number)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, forward)
        return _exit_status(_wait(children), Path(folder))


def _wait(children: Sequence["subprocess.Popen[bytes]"]) -> list[int]:
    """The exit status of each process; after one fails, the others are killed at the end of a grace period."""
    deadline: float | None = None
    while any(child.poll() is None for child in children):
        if deadline is None and any(child.returncode for child in children):
            deadline = time.monotonic() + SECONDS_OF_GRACE
        if deadline is not None and time.monotonic() > deadline:
            for child in children:
                child.kill()
        time.sleep(0.05)
    return [child.returncode for child in children]


def _exit_status(statuses: Sequence[int], folder: Path) -> int:
    """One exit status for all; prints the reason where the process that failed could not."""
    causes = [(n, status) for n, status in enumerate(statuses) if status not in (0, LostPeerError.exit_status)]
    reports = sorted(folder.iterdir())
    if not causes:
        return max(statuses)
    # Processes that were killed here come after the one that failed first.
    number, status = min(causes, key=lambda cause: (cause[1] == -signal.SIGKILL, cause[0])) if reports else causes[0]
    if status > 0:
        if number and reports and statuses[0] == LostPeerError.exit_status:
            print(reports[0].read_text(encoding="utf-8"), file=sys.stderr)
        return status
    raise RunError(
        f"process {number} of {len(statuses)} was ended by signal {-status} ({signal.Signals(-status).name})",
        where="--processes",
        fix="the process was probably killed because memory ran out; run the same command again: training resumes "
        "from its last checkpoint",
    )


def _join(work: Callable[[Announce | None], None], *, debug: bool) -> None:
    """Lead or follow in a group of processes that `start` or torchrun started."""
    # Imports torch.
    from baihua.train.parallel import JoinedProcesses

    group = JoinedProcesses()
    if group.is_leader:
        work(group.announce)
        group.dismiss()
        return

    def run(kind: str, config: dict[str, Any], inputs: dict[str, Path], out: Path) -> None:
        stage = find_stage(kind)
        stage.run(stage.Config.model_validate(config), inputs, out)

    # What is the same in all processes is printed by the leader.
    set_up(debug=debug, is_quiet=True)
    group.follow(run)
