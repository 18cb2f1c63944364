"""transformers in this process, for models that llama.cpp cannot take."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from baihua.backends.transformers import TransformersChat, open_chat
from baihua.chat.types import Guidance, Piece, Sampling
from baihua.core.errors import InputError
from baihua.serve.api.app import Opened
from baihua.serve.web.pump import pass_on


class TransformersEngine:
    """Answers take turns, one token each; there is no guidance and there are no vectors."""

    adapters: tuple[str, ...] = ()

    def __init__(self, chat: TransformersChat, *, num_slots: int) -> None:
        self.num_ctx = chat.num_ctx
        self.num_slots = num_slots
        self._chat = chat

    def generate(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance) -> Iterator[Piece]:
        """Yield what follows these tokens; an InputError where guidance is asked for."""
        if guidance != Guidance():
            raise InputError(
                "transformers, which runs this model, knows no grammar, schema, log-probabilities, penalties or min_p",
                fix="leave them out, or serve a GGUF file",
            )
        return self._chat.generate(ids, sampling)

    def run(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance, receive: Callable[[Piece], bool]) -> None:
        """Hand each piece of `generate` over."""
        pass_on(self.generate(ids, sampling, guidance), receive)

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        """There are none: an InputError."""
        raise InputError("this model runs on transformers, which gives no vectors here", fix="serve a GGUF file")

    def close(self) -> None:
        """Let go of the model."""
        self._chat.close()


def open_engine(folder: Path, *, num_slots: int, num_threads: int | None = None) -> Opened:
    """A model folder as an engine."""
    chat = open_chat(folder, num_threads=num_threads)
    return Opened(TransformersEngine(chat, num_slots=num_slots), chat.tokenizer, chat.template)
