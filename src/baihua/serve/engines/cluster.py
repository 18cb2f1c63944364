"""Replicas of a model on Ray Serve: processes with one llama.cpp engine each, behind one front.

Ray Serve starts and monitors them, restarts those that die, and routes each request to one with a free slot; its HTTP
proxy is not used. A request whose replica dies before any of its text was sent is retried on another one; later a
retry could not be hidden from the client, so the answer ends with a RunError.

A replica returns our errors as values: Ray would wrap a raised one and log its traceback. An exception from a replica
therefore means that something else failed.
"""

import asyncio
import json
import logging
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
from baihua.backends.llama_cpp.library import default_num_threads
from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
from baihua.chat.types import Guidance, Piece, Sampling
from baihua.core.errors import BaihuaError, InputError
from baihua.core.ray import connect
from baihua.modelfiles.gguf_header import read_model_header
from baihua.serve.api.engine import Engine
from baihua.serve.web.streaming import run_in_thread

# Ray reports why a replica did not start as the text of a traceback; this marks our error in it.
MARK = "baihua-error "
# Pieces that follow each other faster than this are sent together. Price: a piece may be delayed by this time.
BATCH_SECONDS = 0.03
# Ray sends the small pieces of answers directly, not through its object store, whose default is a third of the memory.
STORE_BYTES = 100 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSettings:
    """Where replicas run, and how many."""

    address: str = "local"
    """HOST:PORT of a running Ray cluster, or `local` for a private one on this machine."""
    num_replicas: int
    """For each model."""
    num_models: int = 1
    """Models that share the CPUs."""


def open_engine(
    file: Path,
    *,
    settings: ReplicaSettings,
    num_slots: int,
    num_ctx: int,
    num_threads: int | None = None,
    adapters: Mapping[str, Path],
) -> Engine:
    """Start replicas of a GGUF file as one engine; `num_slots` and `num_threads` are those of each replica.

    The file and its adapters must be readable at the same paths on every node.
    """
    file = file.resolve()
    num_ctx = min(num_ctx, read_model_header(file).size("context_length"))
    tokenizer = GgufTokenizer(file)
    template = tokenizer.template()
    owns_ray = connect_ray(settings.address)
    # Not at the top: it imports Ray, which then reads the variables that `connect` sets.
    from baihua.serve.engines import cluster_engine

    try:
        total = settings.num_replicas * settings.num_models
        num_threads = choose_num_threads(total, cluster_engine.node_cpus(), num_threads=num_threads)
        paths = {name: one.resolve() for name, one in adapters.items()}
        replica = ReplicaConfig(
            file=file, num_slots=num_slots, num_ctx=num_ctx, num_threads=num_threads, adapters=paths
        )
        handle = cluster_engine.deploy(replica, settings.num_replicas)
    except (BaihuaError, KeyboardInterrupt):
        if owns_ray:
            cluster_engine.ray.shutdown()
        raise
    return cluster_engine.ClusterEngine(
        handle, replica, tokenizer=tokenizer, template=template, num_replicas=settings.num_replicas, owns_ray=owns_ray
    )


def connect_ray(address: str) -> bool:
    """Join a Ray cluster, or start a private one for `local`; return whether it was started here."""
    owns_ray = connect(
        address, option="--replicas", module="ray.serve", num_cpus=default_num_threads(), store_bytes=STORE_BYTES
    )
    # Ray Serve would log each death of a replica in fifty lines.
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    return owns_ray


def choose_num_threads(num_replicas: int, cpus: list[int], *, num_threads: int | None) -> int:
    """Threads per replica on nodes with these CPUs: as many as fit everywhere, unless they are given."""
    choices = [num_threads] if num_threads else range(max(cpus, default=0), 0, -1)
    for choice in choices:
        if sum(cpu // choice for cpu in cpus) >= num_replicas:
            return choice
    each = f"{num_threads or 1} thread{'s' if (num_threads or 1) > 1 else ''}"
    found = ", ".join(map(str, cpus)) or "no"
    message = f"{num_replicas} replicas of {each} each do not fit: the nodes have {found} CPUs"
    fix = "use fewer replicas or --threads, or a larger cluster"
    raise InputError(message, where=f"--replicas {num_replicas}", fix=fix)


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
