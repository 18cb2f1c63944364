"""Freed memory goes back to the system."""

import gc
import weakref

from baihua.core.memory import release_memory


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
