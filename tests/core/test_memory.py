"""How much memory is free, and that what is freed goes back to the system."""

import gc
import weakref
from pathlib import Path

import psutil
import pytest

from baihua.core import system as memory
from baihua.core.system import free_memory_bytes, release_memory


class Circle:
    """Something that refers to itself."""

    def __init__(self) -> None:
        self.me = self


def test_what_only_refers_to_itself_is_dropped() -> None:
    gc.disable()
    try:
        seen = weakref.ref(Circle())
        assert seen() is not None
        release_memory()
        assert seen() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_the_limit_of_a_container_counts(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("1048576\n", encoding="ascii")
    assert free_memory_bytes() == 2**20
    file.write_text("max\n", encoding="ascii")
    assert 2**20 < free_memory_bytes() <= psutil.virtual_memory().total
