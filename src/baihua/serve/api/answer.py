"""Generating an answer: prompt, queue, time limit and metrics."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

from baihua.chat.render import encode, render
from baihua.chat.types import Guidance, Message, Piece, Sampling
from baihua.core.errors import InputError, TooLongError
from baihua.serve.api.engine import Engine, ServedModel
from baihua.serve.api.metrics import Metrics
from baihua.serve.web.errors import HttpError
from baihua.serve.web.threads import run_in_thread


@dataclass(frozen=True, slots=True)
class Runtime:
    """Threads, time limit and metrics shared by all answers of a server."""

    threads: Executor
    """One thread for each answer being generated."""
    max_seconds: float
    """Longest time for an answer, queueing included."""
    metrics: Metrics


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
        raise TooLongError(
            f"the prompt has {len(ids):,} tokens; the context holds {engine.num_ctx:,} including the answer",
            fix="shorten the messages",
        )
    return room


async def generate_answer(
    served: ServedModel, ids: Sequence[int], sampling: Sampling, guidance: Guidance, *, runtime: Runtime
) -> AsyncGenerator[Piece]:
    """Wait for a slot and yield the answer; closing this generator cancels the answer and frees its slot."""
    started = perf_counter()
    has_text = False
    answer = run_in_thread(partial(served.engine.run, ids, sampling, guidance), threads=runtime.threads)
    async with served.queue.slot(), aclosing(answer) as pieces:
        while (piece := await _next(pieces, runtime.max_seconds - (perf_counter() - started))) is not None:
            if piece.text and not has_text:
                has_text = True
                runtime.metrics.first_token.labels(served.name).observe(perf_counter() - started)
            if piece.usage:
                runtime.metrics.tokens.labels(served.name, "prompt").inc(piece.usage.num_prompt_tokens)
                runtime.metrics.tokens.labels(served.name, "answer").inc(piece.usage.num_answer_tokens)
                runtime.metrics.answer.labels(served.name).observe(perf_counter() - started)
            yield piece


async def _next(pieces: AsyncGenerator[Piece], seconds: float) -> Piece | None:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            return await anext(pieces, None)
    except TimeoutError:
        raise HttpError(503, "the answer took longer than this server allows (--max-seconds)", code="timeout") from None
