"""What runs in each replica's process: one llama.cpp engine, asked through Ray.

Errors of ours travel as values. A raised one would reach the asker wrapped by Ray, and with a traceback in its log;
so whatever is raised there means that something else has failed.
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
from baihua.serve.web.threads import run_in_thread

# Ray tells why a replica does not start as the text of a traceback; this finds our error in it again.
MARK = "baihua-error "
# Pieces that follow each other faster than this travel together. Price: a piece comes so much later, or with the next.
PARCEL_SECONDS = 0.03

Parcel = list[Piece]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How each replica opens its model; paths are those of its machine."""

    file: Path
    num_slots: int
    num_ctx: int
    num_threads: int
    adapters: Mapping[str, Path]


class Replica:
    """One of the engines behind a front; its methods run on an event loop of its process."""

    def __init__(self, opening: Opening) -> None:
        try:
            self._chat = open_chat(
                opening.file,
                num_threads=opening.num_threads,
                num_ctx=opening.num_ctx,
                num_slots=opening.num_slots,
                adapters=opening.adapters,
            )
        except BaihuaError as error:
            where = f"{error.where} on {platform.node()}"
            raise RuntimeError(MARK + json.dumps([error.what, where, error.fix])) from error
        self._threads = ThreadPoolExecutor(opening.num_slots, "answer")

    async def write(
        self, ids: Sequence[int], sampling: Sampling, guidance: Guidance
    ) -> AsyncGenerator[Parcel | BaihuaError]:
        """Yield an answer, or an error as its last item; whoever cancels this frees its slot at the next token."""

        def work(receive: Callable[[Parcel], bool]) -> None:
            self._chat.run(ids, sampling, guidance, Packer(receive).take)

        async with aclosing(run_in_thread(work, threads=self._threads)) as parcels:
            try:
                async for parcel in parcels:
                    yield parcel
            except BaihuaError as error:
                yield error

    async def embed(self, ids: Sequence[int]) -> np.ndarray | BaihuaError:
        """A vector_d of length 1, float32, for a text, or an error."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, partial(self._chat.embed, ids))
        except BaihuaError as error:
            return error


class Packer:
    """Packs pieces of an answer into parcels: what Ray does for each takes longer than a token of a small model."""

    def __init__(self, send: Callable[[Parcel], bool], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._parcel: Parcel = []
        self._due = 0.0

    def take(self, piece: Piece) -> bool:
        """Send it along with those before, now or later; True when no more are wanted."""
        self._parcel.append(piece)
        now = self._clock()
        if now < self._due and piece.finish_reason is None:
            return False
        parcel, self._parcel = self._parcel, []
        # The first text goes at once, however soon after a sign that the prompt is being read.
        if any(one.text for one in parcel):
            self._due = now + PARCEL_SECONDS
        return self._send(parcel)


def error_in(text: str) -> InputError | None:
    """Our error that a replica's start ended with, where a text of Ray holds one."""
    found = re.search(re.escape(MARK) + r"(\[.*\])$", text, re.MULTILINE)
    if found is None:
        return None
    what, where, fix = json.loads(found[1])
    return InputError(what, where=where, fix=fix)
