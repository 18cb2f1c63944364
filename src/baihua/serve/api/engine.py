"""The protocol of engines, and models as the API serves them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from baihua.chat.render import Template
from baihua.chat.types import Guidance, Piece, Sampling, TextTokenizer
from baihua.serve.api.request_queue import RequestQueue


class Engine(Protocol):
    """Generates from token ids; safe to use from many threads."""

    num_ctx: int
    """Most tokens of a prompt and its answer together."""
    num_slots: int
    """Answers generated at the same time."""
    adapters: tuple[str, ...]
    """Adapters that a Guidance may name."""

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
class LoadedModel:
    """An engine, with the tokenizer and template that turn conversations into its token ids."""

    engine: Engine
    tokenizer: TextTokenizer
    template: Template


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model under the name that clients use."""

    name: str
    engine: Engine
    tokenizer: TextTokenizer
    template: Template
    queue: RequestQueue
    """Shared by all names of one engine."""
    created: int
    """Seconds since 1970."""
    adapter: str | None = None

    def encode(self, text: str) -> list[int]:
        """Token ids of a plain text, after the model's BOS token if it has one."""
        bos = [] if self.tokenizer.bos_id is None else [self.tokenizer.bos_id]
        return bos + self.tokenizer.encode(text)
