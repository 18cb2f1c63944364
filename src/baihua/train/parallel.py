"""Several processes that run one recipe and train one model, as copies (DDP) or shards (FSDP2).

The processes are started by `baihua run --processes N` or by torchrun, on one machine or on several that see the same
folders. Announcements between them are JSON. FSDP2 is `fully_shard` of torch itself: without a GPU, Accelerate 1.15
silently turns its own FSDP plugin into DDP. A run that does not get what it asked for fails.
"""

import json
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, cast

import torch
from accelerate import Accelerator, PartialState
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from baihua.core.config import Base
from baihua.core.env import expected_processes
from baihua.core.errors import InputError, LostPeerError, RunError
from baihua.modelfiles.folder import Precision

Kind = Literal["ddp", "fsdp"]
# The other processes wait as long as the stages before training take: cleaning a corpus may be days.
PATIENCE = timedelta(days=30)
# Messages of torch's communication when another process is gone.
LOST = ("Connection closed by peer", "Connection reset by peer", "NCCL error", "Broken pipe", "remote process exited")


class JoinedProcesses:
    """All processes of this run; the first one leads."""

    def __init__(self, *, num_expected: int | None = None) -> None:
        # Without `cpu` Accelerate ignores the launcher where there is no GPU.
        self._state = PartialState(cpu=not torch.accelerator.is_available(), timeout=PATIENCE)
        wanted, found = num_expected or expected_processes(), self._state.num_processes
        if wanted != found:
            what = f"{wanted} processes were started, but they did not join: this one sees {found}"
            raise RunError(what, fix="check that all can reach MASTER_ADDR and MASTER_PORT")
        # NCCL would keep a GPU busy with waiting.
        self._group = cast(distributed.ProcessGroup, distributed.new_group(backend="gloo", timeout=PATIENCE))

    @property
    def is_leader(self) -> bool:
        """Whether this process runs the recipe."""
        return self._state.is_main_process

    def announce(self, stage: str, config: Base, inputs: Mapping[str, Path], out: Path) -> None:
        """Let the others run the same stage; the leader continues with its own share."""
        job = {"stage": stage, "config": config.model_dump(mode="json"), "out": str(out.resolve())}
        self._broadcast(job | {"inputs": {role: str(path.resolve()) for role, path in inputs.items()}})

    def dismiss(self) -> None:
        """Let the others end."""
        self._broadcast({})

    def follow(self, run: Callable[[str, dict[str, Any], dict[str, Path], Path], None]) -> None:
        """Run each stage that the leader announces, until dismissed."""
        while job := self._broadcast(None):
            inputs = {role: Path(path) for role, path in job["inputs"].items()}
            run(job["stage"], job["config"], inputs, Path(job["out"]))

    def _broadcast(self, job: Mapping[str, Any] | None) -> dict[str, Any]:
        """The leader's job, on all processes; the others give None."""
        data = torch.frombuffer(bytearray(json.dumps(job).encode()), dtype=torch.uint8)
        length = torch.tensor([len(data)])
        with explained_loss():
            distributed.broadcast(length, src=0, group=self._group)
            data = data if self.is_leader else torch.empty(int(length), dtype=torch.uint8)
            distributed.broadcast(data, src=0, group=self._group)
        return json.loads(data.numpy().tobytes())


@contextmanager
def explained_loss() -> Generator[None]:
    """Turn torch's error about a lost process into a LostPeerError."""
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in LOST):
            raise
        what = "another process of this run failed first, so this one cannot continue"
        fix = "see the error of the other process; the same command continues from the last checkpoint"
        raise LostPeerError(what, where=str(error).splitlines()[0][:200], fix=fix) from error


def distribute(
    loss_of: nn.Module, layers: nn.ModuleList, *, kind: Kind, accelerator: Accelerator, precision: Precision
) -> nn.Module:
    """The module on this process's device, wrapped for all processes where there are several."""
    if kind == "fsdp":
        _check_shards(loss_of, accelerator.num_processes)
    loss_of.to(accelerator.device)
    if accelerator.num_processes == 1:
        return loss_of
    if kind == "ddp":
        wrapped = accelerator.prepare(loss_of)
        _expect(isinstance(wrapped, DistributedDataParallel), "DDP")
        return cast(nn.Module, wrapped)
    dtype = torch.bfloat16 if precision == "bfloat16" else None
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for layer in layers:
        fully_shard(layer, mp_policy=policy)
    fully_shard(loss_of, mp_policy=policy)
    _expect(all(isinstance(parameter, DTensor) for parameter in loss_of.parameters()), "FSDP")
    return loss_of


@contextmanager
def accumulating(loss_of: nn.Module, *, is_last: bool, accelerator: Accelerator) -> Generator[None]:
    """Synchronize gradients between processes in the last batch of a step only."""
    if isinstance(loss_of, FSDPModule):
        loss_of.set_requires_gradient_sync(is_last)
        yield
    elif is_last:
        yield
    else:
        with accelerator.no_sync(loss_of):
            yield


def local(tensor: Tensor) -> Tensor:
    """This process's shard of a tensor, or the whole tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def consolidate(parameters: Mapping[str, Tensor], *, is_main: bool) -> dict[str, Tensor]:
    """Whole tensors on the CPU of the main process; empty on the others, which must call it too."""
    whole: dict[str, Tensor] = {}
    for name, tensor in parameters.items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if is_main:
            whole[name] = full.detach().cpu()
    return whole


def clip(trained: Iterable[nn.Parameter], max_norm: float) -> float:
    """Clip gradients to a norm of `max_norm`; returns the norm before, over all processes."""
    norm = nn.utils.clip_grad_norm_(trained, max_norm)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def _check_shards(model: nn.Module, num_processes: int) -> None:
    """Refuse shards of quantized weights, and shards for one process."""
    where = "running.parallel"
    if not all(parameter.is_floating_point() for parameter in model.parameters()):
        fix = "use method lora, or running.parallel=ddp"
        raise InputError("weights of 8 or 4 bits cannot be held in shards", where=where, fix=fix)
    if num_processes == 1:
        fix = "baihua run RECIPE --processes N, or start it with torchrun; or leave parallel out"
        raise InputError("parallel=fsdp needs several processes, there is one", where=where, fix=fix)


def _expect(is_so: bool, name: str) -> None:
    if not is_so:
        what = f"{name} was asked for but not set up; training would have run on one process's data alone"
        raise RunError(what, fix="check the versions of torch and accelerate against constraints.txt")
