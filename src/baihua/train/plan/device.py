"""What there is to compute on, in which precision, and with how much memory.

Apple GPUs (`mps`) take the same paths as other GPUs; they were tested with a stand-in only, never run.
"""

import psutil
import torch

from baihua.core import system
from baihua.core.log import logger
from baihua.modelfiles.folder import Precision


def choose_device() -> torch.device:
    """The accelerator where there is one (cuda, mps and so on), else the CPU."""
    return torch.accelerator.current_accelerator() or torch.device("cpu")


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """What to compute in: `auto` is bfloat16 where the hardware multiplies it natively, else float32."""
    is_native = has_bfloat16(device)
    if wanted == "bfloat16" and not is_native:
        logger.warning(
            "this machine has no bfloat16 arithmetic: training will be slower than in float32 (silence: precision=auto)"
        )
    if wanted == "auto":
        return "bfloat16" if is_native else "float32"
    return "bfloat16" if wanted == "bfloat16" else "float32"


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 natively."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "mps":
        # Metal has it from macOS 14 on, which torch asks for anyway.
        return True
    if device.type != "cpu":
        return False
    facts = torch.cpu.get_capabilities()
    return bool(facts.get("avx512_bf16") or facts.get("amx_bf16") or facts.get("bf16"))


def free_memory_bytes(device: torch.device) -> int:
    """Memory that a training may still take: of the GPU, else of this machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return system.free_memory_bytes()


def usable_memory_bytes(device: torch.device) -> int:
    """What a training may use in all: free memory, and what this process holds already."""
    if device.type == "cuda":
        return free_memory_bytes(device) + torch.cuda.memory_reserved(device)
    held = psutil.Process().memory_info().rss if device.type == "cpu" else 0
    return free_memory_bytes(device) + held


def peak_memory_bytes() -> int:
    """The most memory in use so far: of the first CUDA GPU where there is one, else of this process."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else system.peak_memory_bytes()
