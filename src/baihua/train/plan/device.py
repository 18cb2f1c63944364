"""The device of a training: which one, its precision, memory and speed.

Apple GPUs (`mps`) take the same paths as other GPUs; they were tested with a stand-in only, never run.
"""

import os
import time
from pathlib import Path

import psutil
import torch

from baihua.core import system
from baihua.core.log import logger
from baihua.model.load import DTYPES
from baihua.modelfiles.folder import Precision
from baihua.train.plan.machines import TrainingMachine


def choose_device() -> torch.device:
    """The accelerator where there is one (cuda, mps and so on), else the CPU."""
    return torch.accelerator.current_accelerator() or torch.device("cpu")


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """The precision to train in: `auto` is bfloat16 where the hardware multiplies it natively, else float32."""
    is_native = has_bfloat16(device)
    if wanted == "bfloat16" and not is_native:
        slower = "training will be slower than in float32 (silence: precision=auto)"
        logger.warning("this machine has no bfloat16 arithmetic: %s", slower)
    return "bfloat16" if wanted == "bfloat16" or (wanted == "auto" and is_native) else "float32"


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 natively."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        # Metal has it from macOS 14 on, which torch requires anyway.
        return device.type == "mps"
    facts = torch.cpu.get_capabilities()
    return bool(facts.get("avx512_bf16") or facts.get("amx_bf16") or facts.get("bf16"))


def usable_memory_bytes(device: torch.device, *, root: Path = system.ROOT) -> int:
    """Memory that a training may use in total: what is free, and what this process holds already.

    On a CPU the limit of a cgroup counts; `root` is the folder that holds /proc and /sys.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return system.free_memory_bytes(root) + psutil.Process().memory_info().rss


def peak_memory_bytes() -> int:
    """The most memory used so far: of the first CUDA GPU where there is one, else of this process."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else system.peak_memory_bytes()


def this_machine(device: torch.device, *, precision: str = "auto", num_processes: int | None = None) -> TrainingMachine:
    """This machine without its speed, for one process per device or as many as are given."""
    is_cpu = device.type == "cpu"
    num_devices = num_processes or (1 if is_cpu else torch.accelerator.device_count())
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return TrainingMachine(
        name=f"this ({f'{os.cpu_count()} cores' if is_cpu else name})",
        device="cpu" if is_cpu else "cuda",
        num_devices=num_devices,
        # Processes on a CPU share its memory.
        memory_bytes=usable_memory_bytes(device) // (num_devices if is_cpu else 1),
        precision=choose_precision(precision, device),
    )


def measure_speed(device: torch.device, precision: Precision) -> float:
    """Floating-point operations per second in products of matrices, measured for half a second."""
    size = 1024 if device.type == "cpu" else 8192
    matrix = torch.ones(size, size, dtype=DTYPES[precision], device=device)
    _ = matrix @ matrix
    started, num_products = time.monotonic(), 0
    while time.monotonic() - started < 0.5:
        # Reading a number waits for the device.
        float((matrix @ matrix)[0, 0])
        num_products += 1
    return 2 * size**3 * num_products / (time.monotonic() - started)
