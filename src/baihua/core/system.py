"""Memory and network ports of this machine."""

import contextlib
import ctypes
import gc
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path("/")
# Below /sys/fs/cgroup: folder, limit, usage and the name of reclaimable cache in memory.stat, by version of cgroups.
CGROUP_V2 = ("", "memory.max", "memory.current", "inactive_file")
CGROUP_V1 = ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def free_memory_bytes(root: Path = ROOT) -> int:
    """Memory that this process may still take: what the system has available, or less in a limited cgroup.

    `root` is the folder that holds /proc and /sys.
    """
    return max(0, min([psutil.virtual_memory().available, *(limit - used for limit, used in _cgroups(root))]))


def total_memory_bytes(root: Path = ROOT) -> int:
    """Memory of this machine, or the limit of a cgroup that this process is in."""
    return min([psutil.virtual_memory().total, *(limit for limit, _ in _cgroups(root))])


def _cgroups(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use in bytes of each limited memory cgroup that this process is in, its own and those around it.

    A container may see its own cgroup as the root of the tree while /proc names it by a path of the host, so paths
    that do not exist are skipped and the root always counts.
    """
    own = root / "proc" / "self" / "cgroup"
    lines = own.read_text(encoding="utf-8").splitlines() if own.is_file() else ["0::/", "1:memory:/"]
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers and "memory" not in controllers.split(","):
            continue
        folder, limit_name, usage_name, cache_name = CGROUP_V1 if controllers else CGROUP_V2
        mount = root / "sys" / "fs" / "cgroup" / folder
        group = mount / path.lstrip("/")
        for level in (group, *(parent for parent in group.parents if parent.is_relative_to(mount))):
            limit, usage = _number(level / limit_name), _number(level / usage_name)
            if limit is not None:
                # The kernel frees file cache that was not used for a while before it refuses memory.
                yield limit, max(0, (usage or 0) - _reclaimable(level / "memory.stat", cache_name))


def _number(file: Path) -> int | None:
    """The number in a file; None without the file, or for `max`, which means no limit."""
    text = file.read_text(encoding="ascii").strip() if file.is_file() else ""
    return int(text) if text.isdigit() else None


def _reclaimable(file: Path, name: str) -> int:
    lines = file.read_text(encoding="ascii").splitlines() if file.is_file() else []
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)


def peak_memory_bytes() -> int:
    """The largest resident memory of this process so far."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux hands ru_maxrss on from the parent through fork and exec; VmHWM is this process's own.
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def free_port() -> int:
    """A TCP port of this machine that nothing listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def release_memory() -> None:
    """Collect reference cycles, and make glibc return its free pages; other C libraries do so by themselves.

    Tensors of changing sizes leave holes in glibc's heap, which it keeps: after 12 steps of the demo's training the
    process held 3.2 GB; with this, 1.6 GB between two stages of another run (docs/log.md, 2026-11-22).
    """
    gc.collect()
    if sys.platform.startswith("linux"):
        # Another C library, such as musl's, has no such function.
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
