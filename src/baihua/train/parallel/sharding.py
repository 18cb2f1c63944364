"""One model on several processes: copies that average gradients (DDP), or shards of one (FSDP2).

FSDP2 is `fully_shard` of torch itself: Accelerate 1.15 turns its own FSDP plugin into DDP where there is no GPU,
without a word. A run that does not get what it asked for fails.
"""

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Literal, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from baihua.core.errors import InputError, RunError
from baihua.modelfiles.folder import Precision

Kind = Literal["ddp", "fsdp"]


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
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if precision == "bfloat16" else None, reduce_dtype=torch.float32
    )
    for layer in layers:
        fully_shard(layer, mp_policy=policy)
    fully_shard(loss_of, mp_policy=policy)
    _expect(all(isinstance(parameter, DTensor) for parameter in loss_of.parameters()), "FSDP")
    return loss_of


@contextmanager
def accumulating(loss_of: nn.Module, *, is_last: bool, accelerator: Accelerator) -> Generator[None]:
    """Gradients meet those of the other processes after the last batch of a step only."""
    if isinstance(loss_of, FSDPModule):
        loss_of.set_requires_gradient_sync(is_last)
        yield
    elif is_last:
        yield
    else:
        with accelerator.no_sync(loss_of):
            yield


def is_sharded(parameters: Mapping[str, Tensor]) -> bool:
    """Whether this process holds shards only."""
    return any(isinstance(parameter, DTensor) for parameter in parameters.values())


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def consolidate(parameters: Mapping[str, Tensor], *, is_main: bool) -> dict[str, Tensor]:
    """Whole tensors on the CPU of the main process, one by one; nothing on the others, which must call it too."""
    whole: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        tensor = parameter.detach()
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if is_main:
            whole[name] = full.cpu()
    return whole


def clip(trained: Iterable[nn.Parameter], max_norm: float) -> float:
    """Shorten gradients longer than `max_norm`; returns their length before, over all processes."""
    norm = nn.utils.clip_grad_norm_(trained, max_norm)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def _check_shards(model: nn.Module, num_processes: int) -> None:
    """Refuse shards of what cannot be cut, and shards for one process."""
    if not all(parameter.is_floating_point() for parameter in model.parameters()):
        raise InputError(
            "weights of 8 or 4 bits cannot be held in shards",
            where="running.parallel",
            fix="use method lora, or running.parallel=ddp",
        )
    if num_processes == 1:
        raise InputError(
            "parallel=fsdp needs several processes, there is one",
            where="running.parallel",
            fix="baihua run RECIPE --processes N, or start it with torchrun; or leave parallel out",
        )


def _expect(is_so: bool, name: str) -> None:
    if not is_so:
        raise RunError(
            f"{name} was asked for but not set up; training would have run on one process's data alone",
            fix="check the versions of torch and accelerate against constraints.txt",
        )
