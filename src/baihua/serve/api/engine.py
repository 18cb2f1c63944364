"""What the API asks of whatever computes, and a model as the API offers it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from baihua.chat.render import Template
from baihua.chat.types import Guidance, Piece, Sampling, TextTokenizer
from baihua.serve.api.gate import Gate


class Engine(Protocol):
    """Continues token ids; safe to use from many threads."""

    num_ctx: int
    """Most tokens of a prompt and its answer together."""
    num_slots: int
    """Answers that it works on at once; more would wait inside."""
    adapters: tuple[str, ...]
    """Names that a Guidance may give."""

    def run(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance, receive: Callable[[Piece], bool]) -> None:
        """Hand what follows these tokens to `receive`, piece by piece, until it returns True or the answer is over.

        Pieces without text may come in between, so that whoever no longer wants an answer can say so.
        """
        ...

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        """A vector_d of length 1, float32, for a text."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """A model under the name that clients use."""

    name: str
    engine: Engine
    tokenizer: TextTokenizer
    template: Template
    gate: Gate
    """Shared by all names of one engine."""
    created: int
    """Seconds since 1970."""
    adapter: str | None = None


def names_of(name: str, engine: Engine) -> dict[str, str | None]:
    """The names under which an engine is served: its own, and NAME:ADAPTER for each adapter."""
    return {name: None} | {f"{name}:{adapter}": adapter for adapter in engine.adapters}
