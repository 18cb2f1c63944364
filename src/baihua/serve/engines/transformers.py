"""transformers in this process, for models that llama.cpp does not support."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from baihua.backends.transformers import TransformersChat, open_chat
from baihua.chat.types import Guidance, Piece, Sampling
from baihua.serve.api.engine import LoadedModel
from baihua.serve.web.threads import send_all


class TransformersEngine:
    """Generates one token at a time, alternating between the running answers."""

    adapters: tuple[str, ...] = ()

    def __init__(self, chat: TransformersChat, *, num_slots: int) -> None:
        self.num_ctx = chat.num_ctx
        self.num_slots = num_slots
        self._chat = chat

    def run(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance, receive: Callable[[Piece], bool]) -> None:
        """Pass the continuation of these tokens to `receive`."""
        send_all(self._chat.generate(ids, sampling, guidance), receive)

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        """The embedding_d of a text, float32, of length 1."""
        return self._chat.embed(ids)

    def close(self) -> None:
        """Free the model."""
        self._chat.close()


def open_engine(folder: Path, *, num_slots: int, num_threads: int | None = None) -> LoadedModel:
    """Load a model folder."""
    chat = open_chat(folder, num_threads=num_threads)
    return LoadedModel(TransformersEngine(chat, num_slots=num_slots), chat.tokenizer, chat.template)
