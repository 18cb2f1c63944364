"""The protocol of engines, models as the API serves them, and the token ids of their prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from baihua.chat.render import Template, encode, render
from baihua.chat.types import Guidance, Message, Piece, Sampling, TextTokenizer
from baihua.core.errors import InputError, TooLongError
from baihua.serve.api.request_queue import RequestQueue
from baihua.serve.web.errors import HttpError


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

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        """The embedding_d of a text, float32, of length 1."""
        ...

    def close(self) -> None:
        """Free the model."""


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


def chat_ids(messages: Sequence[Message], engine: Engine) -> list[int]:
    """Token ids of a conversation up to where its answer begins; control tokens in the clients' texts stay text.

    Many templates trim texts, and the renderer refuses templates that change the texts they are given. In that case the
    texts are trimmed here first.
    """
    if messages[-1].role == "assistant":
        message = "the last message has the role 'assistant'; end with a user message to answer"
        raise HttpError(400, message, param="messages")
    try:
        spans = render(messages, engine.template, for_answer=True)
    except InputError:
        stripped = [replace(message, content=message.content.strip()) for message in messages]
        if stripped == list(messages):
            raise
        spans = render(stripped, engine.template, for_answer=True)
    return encode(spans, engine.tokenizer).ids


def text_ids(text: str, engine: Engine) -> list[int]:
    """Token ids of a plain text, after the model's BOS token if it has one."""
    bos_id = engine.tokenizer.bos_id
    return ([] if bos_id is None else [bos_id]) + engine.tokenizer.encode(text)


def check_fits(ids: Sequence[int], engine: Engine) -> int:
    """Tokens left for an answer; a TooLongError if there are none."""
    room = engine.num_ctx - len(ids)
    if room <= 0:
        message = f"the prompt has {len(ids):,} tokens; the context holds {engine.num_ctx:,} including the answer"
        raise TooLongError(message, fix="shorten the messages")
    return room
