"""Start a verb as several processes, and join them in one recipe."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

from baihua.core.env import Environment, expected_processes, variables_for_child
from baihua.core.errors import LostPeerError, RunError
from baihua.core.system import free_port

if TYPE_CHECKING:
    from baihua.core.stage import Announce

# How long the others may take to notice that one is gone, and to save.
SECONDS_OF_GRACE = 30.0


def run_together(work: Callable[["Announce | None"], None], *, processes: int | None, debug: bool) -> None:
    """Do a verb's work: alone, in a crew as its leader or a follower, or by starting `processes` copies of it."""
    environment = Environment()
    if expected_processes(environment) > 1:
        _join(work, debug=debug)
    elif processes is not None and processes > 1:
        raise typer.Exit(start(processes, sys.argv[1:]))
    else:
        work(None)


def start(num_processes: int, words: Sequence[str]) -> int:
    """Run this command in so many processes of this machine; returns the exit status of all."""
    with tempfile.TemporaryDirectory() as folder:
        shared = variables_for_child(
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(free_port()),
            WORLD_SIZE=str(num_processes),
            LOCAL_WORLD_SIZE=str(num_processes),
            BAIHUA_REPORT_TO=folder,
        )
        # Threads that wait for each other on too few cores are many times slower than too few threads.
        shared.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num_processes)))
        command = [sys.executable, "-m", "baihua", *words]
        children = [
            # In sessions of their own: a Ctrl-C would else reach them twice, from the terminal and from here.
            subprocess.Popen(
                command, env=shared | {"RANK": str(number), "LOCAL_RANK": str(number)}, start_new_session=True
            )
            for number in range(num_processes)
        ]

        def pass_on(number: int, frame: FrameType | None) -> None:
            for child in children:
                child.send_signal(number)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, pass_on)
        return _status(_wait(children), Path(folder))


def _wait(children: Sequence["subprocess.Popen[bytes]"]) -> list[int]:
    """The exit status of each process; once one has failed, the others get a while and are then ended."""
    deadline: float | None = None
    while any(child.poll() is None for child in children):
        if deadline is None and any(child.returncode for child in children):
            deadline = time.monotonic() + SECONDS_OF_GRACE
        if deadline is not None and time.monotonic() > deadline:
            for child in children:
                child.kill()
        time.sleep(0.05)
    return [child.returncode for child in children]


def _status(statuses: Sequence[int], folder: Path) -> int:
    """One exit status for all; the reason is shown where the process that failed could not."""
    innocent = (0, LostPeerError.exit_status)
    causes = [(number, status) for number, status in enumerate(statuses) if status not in innocent]
    reports = sorted(folder.iterdir())
    if not causes:
        return max(statuses)
    # Those that were ended by us come after the one that failed by itself.
    number, status = min(causes, key=lambda cause: (cause[1] == -signal.SIGKILL, cause[0])) if reports else causes[0]
    if status > 0:
        if number and reports and statuses[0] == LostPeerError.exit_status:
            print(reports[0].read_text(encoding="utf-8"), file=sys.stderr)
        return status
    raise RunError(
        f"process {number} of {len(statuses)} was ended by signal {-status} ({signal.Signals(-status).name})",
        where="--processes",
        fix="a kill without a word is often the system's, for want of memory; run the same command again: training "
        "goes on from its last checkpoint",
    )


def _join(work: "Callable[[Announce | None], None]", *, debug: bool) -> None:
    """Lead or follow in a crew that was started by us or by torchrun."""
    from baihua.core.log import set_up
    from baihua.core.stage import find_stage
    from baihua.train.parallel.processes import JoinedProcesses

    crew = JoinedProcesses()
    if crew.is_leader:
        work(crew.announce)
        crew.dismiss()
        return

    def run(kind: str, config: dict[str, Any], inputs: dict[str, Path], out: Path) -> None:
        stage = find_stage(kind)
        stage.run(stage.Config.model_validate(config), inputs, out)

    # What all do alike is said once.
    set_up(debug=debug, is_quiet=True)
    crew.follow(run)
