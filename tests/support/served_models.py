"""GGUF files as a server opens them, for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from baihua.backends.llama_cpp.chat import LlamaCppChat, open_chat


@contextmanager
def opened_file(file: Path, *, num_slots: int = 2) -> Iterator[LlamaCppChat]:
    """A GGUF file as an engine."""
    engine = open_chat(file, num_slots=num_slots, num_ctx=512, num_threads=1)
    try:
        yield engine
    finally:
        engine.close()
