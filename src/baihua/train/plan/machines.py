"""Machines to train on and shapes of well-known models, from machines.yaml, and this machine as measured."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from baihua.core import kinds
from baihua.core.errors import InputError
from baihua.modelfiles.shape import Shape, read_shape

THIS = "this"
FILE = Path(__file__).with_name("machines.yaml")
GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMachine:
    """Devices of one kind: memory, speed and price."""

    name: str
    device: Literal["cpu", "cuda"]
    num_devices: int
    memory_bytes: int
    """Of one device; of this machine, what is free now."""
    operations_per_second: float = 0.0
    """The peak of one device."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """The one that `auto` chooses."""
    peak_share: float | None = None
    """Share of the peak that a training reaches; None for the method's own."""
    price: float | None = None
    """Per hour, for all devices."""
    price_source: str = "unknown"
    currency: str | None = None


def find_machine(name: str) -> TrainingMachine:
    """A machine of machines.yaml, or `this` one, whose speed is measured for half a second."""
    table = _read()
    if name == THIS:
        # Loads torch.
        from baihua.train.plan.device import choose_device, measure_speed, this_machine

        device = choose_device()
        machine = this_machine(device)
        share = table["shares_cpu"][machine.precision] if machine.device == "cpu" else None
        return replace(machine, operations_per_second=measure_speed(device, machine.precision), peak_share=share)
    if name not in table["machines"]:
        known = [THIS, *table["machines"]]
        raise InputError(kinds.unknown(name, known, what="machine"), where="--machine", fix=f"add it to {FILE}")
    facts = table["machines"][name]
    memory_bytes, speed = round(facts.pop("memory_gib") * GIB), facts.pop("tflops") * 1e12
    return TrainingMachine(name=name, device="cuda", memory_bytes=memory_bytes, operations_per_second=speed, **facts)


def known_shape(name: str) -> Shape:
    """The shape of a well-known model."""
    shapes = _read()["shapes"]
    if name not in shapes:
        raise InputError(kinds.unknown(name, [*shapes], what="model"), where="--assume model", fix=f"add it to {FILE}")
    return read_shape(shapes[name])


def _read() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))
