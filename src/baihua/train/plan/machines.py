"""What a training would need on a machine that is named, or on this one: memory, time, money."""

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from baihua.core import kinds
from baihua.core.errors import InputError
from baihua.modelfiles.shape import Shape, read_shape
from baihua.train.plan.memory import Job, estimate_memory, operations_per_token

if TYPE_CHECKING:
    import torch

    from baihua.modelfiles.folder import Precision

THIS = "this"
FILE = Path(__file__).with_name("machines.yaml")
GIB = 2**30
Wanted = bool | Literal["auto"]


@dataclass(frozen=True, slots=True)
class TrainingMachine:
    """Devices of one kind, what they can do, and what of it a training reaches."""

    name: str
    device: str
    """`cpu` or `cuda`."""
    num_devices: int
    memory_bytes: int
    """Of one device; of this machine what is free now."""
    operations_per_second: float
    """The peak of one device."""
    shares: Mapping[str, float]
    """Share of the peak that a training reaches, by method."""
    price: float | None = None
    """For an hour of all devices."""
    price_source: str = "none is known"
    currency: str | None = None


def find_machine(name: str) -> TrainingMachine:
    """A machine of machines.yaml, or `this` one, whose speed is measured for half a second."""
    table = _read()
    if name == THIS:
        return _measure(table["shares"], table["shares_cpu"])
    if name not in table["machines"]:
        known = [THIS, *table["machines"]]
        raise InputError(kinds.unknown(name, known, what="machine"), where="--machine", fix=f"add it to {FILE}")
    facts = table["machines"][name]
    return TrainingMachine(
        name,
        "cuda",
        facts["num_devices"],
        round(facts["memory_gib"] * GIB),
        facts["tflops"] * 1e12,
        table["shares"],
        facts["price"],
        facts["price_source"],
        facts["currency"],
    )


def known_shape(name: str) -> Shape:
    """The shape of a model that everybody knows."""
    shapes = _read()["shapes"]
    if name not in shapes:
        raise InputError(
            kinds.unknown(name, list(shapes), what="model"), where="--assume model", fix=f"add it to {FILE}"
        )
    return read_shape(shapes[name])


def forecast(
    shape: Shape, job: Job, machine: TrainingMachine, *, num_tokens: float | None, wanted: Wanted = False
) -> dict[str, Any]:
    """What a training needs there: memory of each device, and where the number of tokens is known, time and money.

    `wanted` is whether gradients are checkpointed; `auto` where it is needed.
    """
    job = choose_checkpointing(shape, replace(job, device=machine.device), machine.memory_bytes, wanted=wanted)
    memory = estimate_memory(shape, job)
    share = machine.shares[job.method]
    speed = share * machine.operations_per_second * job.num_processes / operations_per_token(shape, job)
    seconds = None if num_tokens is None else num_tokens / speed
    cost = None if seconds is None or machine.price is None else round(seconds / 3600 * machine.price, 2)
    return {
        "memory_bytes": memory.total,
        "fits": memory.total <= machine.memory_bytes,
        "seconds": seconds,
        "cost": cost,
        "tokens_per_second": speed,
        "memory": asdict(memory),
        "gradient_checkpointing": job.uses_checkpointing,
        "assumptions": [
            f"{machine.name}: {machine.num_devices} x {machine.memory_bytes / GIB:.1f} GiB, "
            f"{machine.operations_per_second / 1e12:.3g} TFLOP/s each, of which {job.method} reaches {share:.0%}",
            f"{job.method}, {job.precision}, batches of {job.num_tokens_per_batch:,} tokens on each device, "
            f"examples of {job.mean_length:.0f} tokens, {job.target_share:.0%} of them learnt",
            f"price per hour: {machine.price} {machine.currency} ({machine.price_source})"
            if machine.price is not None
            else f"price per hour: {machine.price_source}",
        ],
    }


def choose_checkpointing(shape: Shape, job: Job, free_bytes: int, *, wanted: Wanted) -> Job:
    """The job with checkpointing as wanted; `auto` switches it on where the job would not fit without it."""
    plain = replace(job, uses_checkpointing=False)
    if wanted is False or (wanted == "auto" and estimate_memory(shape, plain).total <= free_bytes):
        return plain
    return replace(job, uses_checkpointing=True)


def ways_to_fit(shape: Shape, job: Job, free_bytes: int, *, least_tokens: int) -> list[str]:
    """Changes of a recipe that would each make a job fit that does not; a batch has at least `least_tokens`."""
    smaller = max(least_tokens, job.num_tokens_per_batch // 2)
    smallest = max(least_tokens, 256)
    fewer = {
        f"batches.num_tokens_per_batch={size}": {"num_tokens_per_batch": size} for size in sorted({smallest, smaller})
    }
    checkpointing = {"running.gradient_checkpointing=true": {"uses_checkpointing": True}}
    targets = job.target_modules or tuple(shape.linears)
    lighter = {
        f"method.kind={name}": {"method": name, "rank": job.rank or 16, "target_modules": targets}
        for name in ("lora", "qlora")
        if name != job.method and job.method != "qlora"
    }
    together = " and ".join([*checkpointing, next(iter(fewer)), *list(lighter)[-1:]])
    everything = {
        name: value for way in [*checkpointing.values(), *list(fewer.values())[:1]] for name, value in way.items()
    }
    everything |= list(lighter.values())[-1] if lighter else {}
    ways = {**fewer, **checkpointing, **lighter}
    fitting = [name for name, changes in ways.items() if _fits(shape, replace(job, **changes), free_bytes)]
    return fitting or ([together] if _fits(shape, replace(job, **everything), free_bytes) else [])


def _fits(shape: Shape, job: Job, free_bytes: int) -> bool:
    return estimate_memory(shape, job).total <= free_bytes


def _read() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def measure_speed(device: "torch.device", precision: "Precision") -> float:
    """Operations a second of a product of matrices on a device, measured for half a second."""
    import torch

    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    size = 1024 if device.type == "cpu" else 8192
    one = torch.ones(size, size, dtype=dtype, device=device)
    _ = one @ one
    started, num_products = time.monotonic(), 0
    while time.monotonic() - started < 0.5:
        # Reading a number waits for the device.
        float((one @ one)[0, 0])
        num_products += 1
    return 2 * size**3 * num_products / (time.monotonic() - started)


def _measure(shares: Mapping[str, float], shares_cpu: Mapping[str, float]) -> TrainingMachine:
    """This machine: its first GPU's memory, or what is free; and the speed of a product of matrices."""
    import torch

    from baihua.train.plan.device import choose_device, choose_precision, usable_memory_bytes

    device = choose_device()
    precision = choose_precision("auto", device)
    speed = measure_speed(device, precision)
    is_cpu = device.type == "cpu"
    if is_cpu:
        shares = dict.fromkeys(shares, shares_cpu[precision])
    count = 1 if is_cpu else torch.accelerator.device_count()
    name = f"this ({os.cpu_count()} cores)" if is_cpu else f"this ({torch.cuda.get_device_name(device)})"
    return TrainingMachine(name, "cpu" if is_cpu else "cuda", count, usable_memory_bytes(device), speed, shares)
