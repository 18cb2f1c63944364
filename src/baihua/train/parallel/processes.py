"""Several processes, one recipe: the first process runs it, the others wait for the stages that need them all.

Started by `baihua run --processes N` or by torchrun, on one machine or several that see the same folders. What is
announced is JSON.
"""

import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from torch import distributed

from baihua.core.config import Base
from baihua.core.env import Environment, expected_processes
from baihua.core.errors import LostPeerError, RunError

# The others wait as long as the stages before take: cleaning a corpus may be days.
PATIENCE = timedelta(days=30)
# What torch's communication says when another process is gone.
LOST = ("Connection closed by peer", "Connection reset by peer", "NCCL error", "Broken pipe", "remote process exited")


class JoinedProcesses:
    """All processes of this run, joined; the first one leads."""

    def __init__(self) -> None:
        # Without the first word Accelerate ignores the launcher where there is no GPU.
        self._state = PartialState(cpu=not torch.accelerator.is_available(), timeout=PATIENCE)
        wanted, found = expected_processes(Environment()), self._state.num_processes
        if wanted != found:
            raise RunError(
                f"{wanted} processes were started, but they did not join: this one sees {found}",
                fix="check that all can reach MASTER_ADDR and MASTER_PORT",
            )
        # NCCL would keep a GPU busy with waiting.
        self._group = cast(distributed.ProcessGroup, distributed.new_group(backend="gloo", timeout=PATIENCE))

    @property
    def is_leader(self) -> bool:
        """Whether this process runs the recipe."""
        return self._state.is_main_process

    def announce(self, stage: str, config: Base, inputs: Mapping[str, Path], out: Path) -> None:
        """Let the others run the same stage; the leader goes on with its own share."""
        where = {role: str(path.resolve()) for role, path in inputs.items()}
        config_tree = config.model_dump(mode="json")
        self._tell({"stage": stage, "config": config_tree, "inputs": where, "out": str(out.resolve())})

    def dismiss(self) -> None:
        """There is nothing more to do for the others."""
        self._tell({})

    def follow(self, run: Callable[[str, dict[str, Any], dict[str, Path], Path], None]) -> None:
        """Run what is announced, until dismissed."""
        while job := self._hear():
            inputs = {role: Path(path) for role, path in job["inputs"].items()}
            run(job["stage"], job["config"], inputs, Path(job["out"]))

    def _tell(self, job: Mapping[str, Any]) -> None:
        data = torch.frombuffer(bytearray(json.dumps(job).encode()), dtype=torch.uint8)
        with explained_loss():
            distributed.broadcast(torch.tensor([len(data)]), src=0, group=self._group)
            distributed.broadcast(data, src=0, group=self._group)

    def _hear(self) -> dict[str, Any]:
        length = torch.zeros(1, dtype=torch.int64)
        with explained_loss():
            distributed.broadcast(length, src=0, group=self._group)
            data = torch.empty(int(length), dtype=torch.uint8)
            distributed.broadcast(data, src=0, group=self._group)
        return json.loads(data.numpy().tobytes())


@contextmanager
def explained_loss() -> Generator[None]:
    """Turn what torch says when another process has gone into a LostPeerError."""
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in LOST):
            raise
        raise LostPeerError(
            "another process of this run has ended, so this one cannot go on",
            where=str(error).splitlines()[0][:200],
            fix="see what the other one said; run the same command again: it goes on from the last checkpoint",
        ) from error
