"""The protocol of engines, and models as the API serves them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from baihua.chat.render import Template
from baihua.chat.types import Guidance, Piece, Sampling, TextTokenizer
from baihua.serve.api.request_queue import RequestQueue


class Engine(Protocol):
    """A loaded model that continues token ids; safe to use from many threads."""

    template: Template
    num_ctx: int
    """Most tokens of a prompt and its answer together."""
    num_slots: int
    """Answers generated at the same time."""
    adapters: tuple[str, ...]
    """Adapters that a Guidance may name."""

    @property
    def tokenizer(self) -> TextTokenizer:
        """The model's tokenizer."""
        ...

    def run(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance, receive: Callable[[Piece], bool]) -> None:
        """Pass the continuation of these tokens to `receive`, piece by piece, until it returns True or the answer ends.

        Pieces without text may come in between; they give `receive` the chance to cancel.
        """
        ...

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        """The embedding_d of a text, float32, of length 1."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


@dataclass(frozen=True, slots=True)
class ServedModel:
    """An engine under a name that clients use."""

    name: str
    engine: Engine
    queue: RequestQueue
    """Shared by all names of the engine."""
    created: int
    """Seconds since 1970."""
    adapter: str | None = None
