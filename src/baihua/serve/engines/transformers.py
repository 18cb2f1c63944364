"""transformers in this process, for models that llama.cpp cannot take."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from baihua.backends.transformers import TransformersChat, open_chat
from baihua.chat.types import Guidance, Piece, Sampling
from baihua.serve.api.engine import LoadedModel
from baihua.serve.web.threads import send_all


class TransformersEngine:
    """Answers take turns, one token each."""

    adapters: tuple[str, ...] = ()

    def __init__(self, chat: TransformersChat, *, num_slots: int) -> None:
        self.num_ctx = chat.num_ctx
        self.num_slots = num_slots
        self._chat = chat

    def run(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance, receive: Callable[[Piece], bool]) -> None:
        """Hand over what follows these tokens."""
        send_all(self._chat.generate(ids, sampling, guidance), receive)

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        """A vector_d of length 1, float32, for a text."""
        return self._chat.embed(ids)

    def close(self) -> None:
        """Let go of the model."""
        self._chat.close()


def open_engine(folder: Path, *, num_slots: int, num_threads: int | None = None) -> LoadedModel:
    """A model folder as an engine."""
    chat = open_chat(folder, num_threads=num_threads)
    return LoadedModel(TransformersEngine(chat, num_slots=num_slots), chat.tokenizer, chat.template)
