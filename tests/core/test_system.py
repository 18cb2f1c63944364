"""Memory and ports of this machine: limits and use of cgroups, the peak of one process, free memory given back."""

import gc
import socket
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import psutil
import pytest

from baihua.core.system import (
    CGROUP_V1,
    CGROUP_V2,
    free_memory_bytes,
    free_port,
    peak_memory_bytes,
    release_memory,
    total_memory_bytes,
)

MIB = 2**20
PROC_LINES = {CGROUP_V2: "0::{path}\n", CGROUP_V1: "5:cpu:/\n4:hugetlb,memory:{path}\n0::/\n"}
Version = tuple[str, str, str, str]


class Circle:
    """Something that refers to itself."""

    def __init__(self) -> None:
        self.me = self


def test_reference_cycles_are_collected() -> None:
    gc.disable()
    try:
        seen = weakref.ref(Circle())
        assert seen() is not None
        release_memory()
        assert seen() is None
    finally:
        gc.enable()


def write_cgroup(root: Path, version: Version, path: str, *, limit: str, usage: int = 0, cache: int = 0) -> Path:
    """A cgroup below a temporary root, with a limit, its usage and the reclaimable part of it."""
    folder, limit_name, usage_name, cache_name = version
    group = root / "sys/fs/cgroup" / folder / path.lstrip("/")
    group.mkdir(parents=True, exist_ok=True)
    (group / limit_name).write_text(f"{limit}\n", encoding="ascii")
    (group / usage_name).write_text(f"{usage}\n", encoding="ascii")
    (group / "memory.stat").write_text(f"anon 5\n{cache_name} {cache}\n", encoding="ascii")
    return root


def write_proc(root: Path, version: Version, path: str) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(PROC_LINES[version].format(path=path), encoding="ascii")


@pytest.mark.parametrize("version", [CGROUP_V1, CGROUP_V2])
def test_what_a_cgroup_uses_already_is_not_free(version: Version, tmp_path: Path) -> None:
    root = write_cgroup(tmp_path, version, "/", limit=str(5 * MIB), usage=4 * MIB)
    assert (free_memory_bytes(root), total_memory_bytes(root)) == (MIB, 5 * MIB)


@pytest.mark.parametrize("version", [CGROUP_V1, CGROUP_V2])
def test_reclaimable_cache_of_a_cgroup_is_free(version: Version, tmp_path: Path) -> None:
    root = write_cgroup(tmp_path, version, "/", limit=str(5 * MIB), usage=4 * MIB, cache=3 * MIB)
    assert free_memory_bytes(root) == 4 * MIB


@pytest.mark.parametrize("version", [CGROUP_V1, CGROUP_V2])
@pytest.mark.parametrize("limited", ["/", "/user", "/user/job"])
def test_the_limits_of_the_own_cgroup_and_of_those_around_it_hold(
    version: Version, limited: str, tmp_path: Path
) -> None:
    write_proc(tmp_path, version, "/user/job")
    write_cgroup(tmp_path, version, "/user/job", limit=str(7 * MIB), usage=MIB)
    write_cgroup(tmp_path, version, limited, limit=str(5 * MIB), usage=MIB)
    assert free_memory_bytes(tmp_path) == 4 * MIB


@pytest.mark.parametrize("version", [CGROUP_V1, CGROUP_V2])
def test_a_path_of_the_host_leaves_the_root_of_the_container(version: Version, tmp_path: Path) -> None:
    write_proc(tmp_path, version, "/docker/0123")
    assert free_memory_bytes(write_cgroup(tmp_path, version, "/", limit=str(5 * MIB))) == 5 * MIB


def test_a_cgroup_over_its_limit_has_nothing_free(tmp_path: Path) -> None:
    assert free_memory_bytes(write_cgroup(tmp_path, CGROUP_V2, "/", limit="1000", usage=2000)) == 0


@pytest.mark.parametrize("limit", ["max", "9223372036854771712"])
def test_without_a_limit_the_system_decides(limit: str, tmp_path: Path) -> None:
    root = write_cgroup(tmp_path, CGROUP_V1, "/", limit=limit)
    assert MIB < free_memory_bytes(root) <= psutil.virtual_memory().total == total_memory_bytes(root)


def test_the_peak_of_a_process_is_not_that_of_its_parent() -> None:
    block = np.ones(200 * MIB, dtype=np.uint8)
    assert peak_memory_bytes() > block.nbytes
    command = "from baihua.core.system import peak_memory_bytes; print(peak_memory_bytes())"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert 5 * MIB < int(done.stdout) < block.nbytes


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))
