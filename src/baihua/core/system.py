"""How much memory there is, and giving it back to the system."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def free_memory_bytes() -> int:
    """What this process may still take: what the system has free, or the limit of its cgroup if that is less."""
    # Not at the top: `baihua --help` comes by here.
    import psutil

    return min([psutil.virtual_memory().available, *_limits(CGROUPS)])


def _limits(root: Path) -> Iterator[int]:
    """Memory limits of a container, versions 2 and 1 of cgroups; `max` and absurd numbers stand for none."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        file = root / name
        text = file.read_text(encoding="ascii").strip() if file.is_file() else ""
        if text.isdigit():
            yield int(text)


def release_memory() -> None:
    """Drop what only refers to itself, and let glibc return its free pages; elsewhere the system does so by itself.

    Tensors of ever other sizes leave holes in glibc's heap, which it keeps: after 12 steps of the demo's
    training the process held 3.2 GB; with this, 1.6 GB between two stages of another run (docs/log.md, 2026-11-22).
    """
    gc.collect()
    if not sys.platform.startswith("linux"):
        return
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except AttributeError:
        return  # Another C library, such as musl's.
    trim(0)
