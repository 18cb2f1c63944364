"""The most memory that this process has needed."""

import torch

from baihua.core import system


def peak_memory_bytes() -> int:
    """The largest memory in use so far: of the first GPU where there is one, else of this process."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else system.peak_memory_bytes()
