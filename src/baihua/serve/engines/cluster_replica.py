"""A replica's process: one llama.cpp engine, called through Ray.

Our errors are returned as values: Ray would wrap a raised one and log its traceback. An exception from a replica
therefore means that something else failed.
"""

import asyncio
import json
import platform
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from baihua.backends.llama_cpp.chat import open_chat
from baihua.chat.types import Guidance, Piece, Sampling
from baihua.core.errors import BaihuaError, InputError
from baihua.serve.web.streaming import run_in_thread

# Ray reports why a replica did not start as the text of a traceback; this marks our error in it.
MARK = "baihua-error "
# Pieces that follow each other faster than this are sent together. Price: a piece may be delayed by this time.
BATCH_SECONDS = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaConfig:
    """How each replica loads its model; paths are those of its machine."""

    file: Path
    num_slots: int
    num_ctx: int
    num_threads: int
    adapters: Mapping[str, Path]


class Replica:
    """The Ray Serve deployment; its methods run on the event loop of its process."""

    def __init__(self, config: ReplicaConfig) -> None:
        try:
            self._chat = open_chat(
                config.file,
                num_threads=config.num_threads,
                num_ctx=config.num_ctx,
                num_slots=config.num_slots,
                adapters=config.adapters,
            )
        except BaihuaError as error:
            where = f"{error.where} on {platform.node()}"
            raise RuntimeError(MARK + json.dumps([error.what, where, error.fix])) from error
        self._threads = ThreadPoolExecutor(config.num_slots, "answer")

    async def generate(
        self, ids: Sequence[int], sampling: Sampling, guidance: Guidance
    ) -> AsyncGenerator[list[Piece] | BaihuaError]:
        """Yield an answer, or an error as the last item; cancelling this frees the slot at the next token."""

        def work(receive: Callable[[list[Piece]], bool]) -> None:
            self._chat.run(ids, sampling, guidance, PieceBatcher(receive).add)

        async with aclosing(run_in_thread(work, threads=self._threads)) as batches:
            try:
                async for batch in batches:
                    yield batch
            except BaihuaError as error:
                yield error

    async def embed(self, ids: Sequence[int]) -> np.ndarray | BaihuaError:
        """The embedding_d of a text, float32, of length 1, or an error."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, partial(self._chat.embed, ids))
        except BaihuaError as error:
            return error


class PieceBatcher:
    """Sends pieces of an answer in batches: one item costs Ray more time than a small model needs for a token."""

    def __init__(self, send: Callable[[list[Piece]], bool], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._batch: list[Piece] = []
        self._due = 0.0

    def add(self, piece: Piece) -> bool:
        """Send a piece with those before it, now or later; True when no more are wanted."""
        self._batch.append(piece)
        now = self._clock()
        if now < self._due and piece.finish_reason is None:
            return False
        batch, self._batch = self._batch, []
        # Only text starts the delay, so that the first text is sent at once after empty pieces.
        if any(one.text for one in batch):
            self._due = now + BATCH_SECONDS
        return self._send(batch)


def find_error(text: str) -> InputError | None:
    """The error with which a replica failed to start, found in Ray's text."""
    found = re.search(re.escape(MARK) + r"(\[.*\])$", text, re.MULTILINE)
    if found is None:
        return None
    what, where, fix = json.loads(found[1])
    return InputError(what, where=where, fix=fix)
