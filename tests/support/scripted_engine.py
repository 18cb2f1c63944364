"""An engine that sends what a test scripts, when the test releases it."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from baihua.chat.render import Template
from baihua.chat.templates import chatml
from baihua.chat.types import Guidance, Piece, Sampling, TextTokenizer, Usage
from baihua.core.errors import BaihuaError

END = Piece("", "stop", Usage(1, 2))


class ByteTokenizer:
    """One token for each byte, and the two control tokens of ChatML."""

    controls: Mapping[str, int] = MappingProxyType({"<|im_start|>": 256, "<|im_end|>": 257})
    bos_id: int | None = None

    def encode(self, text: str) -> list[int]:
        """Bytes."""
        return list(text.encode())

    def token_bytes(self, token_id: int) -> bytes:
        """The byte."""
        return bytes([token_id]) if token_id < 256 else b""


CHATML = Template("chatml", chatml.JINJA, frozenset(ByteTokenizer.controls))


class ScriptedEngine:
    """Yields its pieces, waits where a piece is None until `go` is set, raises where it is an error."""

    adapters: tuple[str, ...] = ()
    tokenizer: TextTokenizer = ByteTokenizer()

    def __init__(self, *pieces: Piece | BaihuaError | None, num_slots: int = 1, num_ctx: int = 512) -> None:
        self.template = CHATML
        self.num_ctx = num_ctx
        self.num_slots = num_slots
        self.go = threading.Event()
        self.was_left = threading.Event()
        self.asked: list[tuple[list[int], Sampling, Guidance]] = []
        self._pieces = pieces

    def generate(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance) -> Iterator[Piece]:
        """Yield the script."""
        self.asked.append((list(ids), sampling, guidance))
        try:
            for piece in self._pieces:
                if isinstance(piece, BaihuaError):
                    raise piece
                if piece is not None:
                    yield piece
                    continue
                while not self.go.wait(0.01):
                    yield Piece("")
        except GeneratorExit:
            self.was_left.set()
            raise

    def run(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance, receive: Callable[[Piece], bool]) -> None:
        """Hand each piece of `generate` over."""
        for piece in self.generate(ids, sampling, guidance):
            if receive(piece):
                return

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        """A vector that points to one side."""
        return np.asarray([1.0, 0.0], dtype=np.float32)

    def close(self) -> None:
        """Nothing to free."""
