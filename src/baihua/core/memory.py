"""Give freed memory back to the system."""

import ctypes
import gc
import sys


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
