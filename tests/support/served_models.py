"""Models as a server has them, for tests."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from baihua.chat.render import Template
from baihua.chat.templates import chatml
from baihua.chat.types import TextTokenizer
from baihua.serve.api.engine import Engine, LoadedModel
from baihua.serve.engines import llama_cpp


class ByteTokenizer:
    """One token for each byte, and two controls."""

    controls: Mapping[str, int] = MappingProxyType({"<|im_start|>": 256, "<|im_end|>": 257})
    bos_id: int | None = None

    def encode(self, text: str) -> list[int]:
        """Bytes."""
        return list(text.encode())

    def token_bytes(self, token_id: int) -> bytes:
        """The byte."""
        return bytes([token_id]) if token_id < 256 else b""


def opened_with(engine: Engine) -> LoadedModel:
    """An engine with ChatML and a token for each byte."""
    tokenizer: TextTokenizer = ByteTokenizer()
    return LoadedModel(engine, tokenizer, Template("chatml", chatml.JINJA, frozenset(ByteTokenizer.controls)))


@contextmanager
def opened_file(file: Path, *, num_slots: int = 2) -> Iterator[LoadedModel]:
    """A GGUF file as a server opens it."""
    opened = llama_cpp.open_engine(file, num_slots=num_slots, num_ctx=512, num_threads=1, adapters={})
    try:
        yield opened
    finally:
        opened.engine.close()
