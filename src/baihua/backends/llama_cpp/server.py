"""llama.cpp's server loop in this process: one model, several answers at once."""

import logging
import queue
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil
import xllamacpp

from baihua.backends.guidance import LARK_MARK
from baihua.backends.llama_cpp.library import pause_openmp
from baihua.core.errors import InputError
from baihua.core.log import logger
from baihua.core.system import free_memory_bytes

# llama.cpp keeps the state of conversations that left their slot; its own limit is 8 GiB.
MAX_CACHE_MIB = 1024
# Tokens of prompts that are read between two looks at everything else: other answers go on, and who has left is seen.
# llama.cpp's own 2,048 would let the others wait for seconds.
NUM_TOKENS_PER_TURN = 512
# Verbosity of llama.cpp's server: 0 is silent, 3 its default.
SILENT, CHATTY = 0, 3


class Server(Protocol):
    """What we use of xllamacpp's server, which is compiled and without types."""

    def handle_completions(self, request: dict[str, Any], receive: Callable[[dict[str, Any]], bool]) -> None:
        """Answer a request; `receive` gets each chunk and returns True to stop."""
        ...

    def handle_embeddings(self, request: dict[str, Any]) -> dict[str, Any]:
        """Vectors of several inputs."""
        ...


@dataclass(frozen=True, slots=True)
class Room:
    """What a server has room for."""

    num_ctx: int
    """Tokens of a conversation with its answer."""
    num_slots: int
    """Answers at once."""


def default_num_threads() -> int:
    """Physical cores: hyper-threads make llama.cpp slower."""
    return psutil.cpu_count(logical=False) or 1


def has_room_for_copy(file: Path) -> bool:
    """Whether llama.cpp may keep weights in a second order beside the mapped file, which makes it faster.

    Where both do not fit, the system reads the file anew for every token: a 7B of q3_k_m under a limit of 4 GiB read
    1.5 GB a token with the copy and nothing without it, 0.7 against 2.5 tokens/s (docs/log.md, 2026-11-26).
    """
    return 2 * file.stat().st_size < free_memory_bytes()


def has_llguidance() -> bool:
    """Whether this build of llama.cpp reads grammars in Lark; one without it ends the process when it is given one."""
    return xllamacpp.json_schema_to_grammar({}).startswith(LARK_MARK)  # pyright: ignore


def open_server(file: Path, room: Room, *, num_threads: int, adapters: Sequence[Path] = ()) -> Server:
    """llama.cpp's server loop on its own thread; adapters are GGUF files, all off until a request wants one."""
    pause_openmp()
    wanted = xllamacpp.CommonParams()  # pyright: ignore[reportAttributeAccessIssue]
    wanted.model.path = str(file)
    wanted.n_ctx = room.num_ctx * room.num_slots
    wanted.n_parallel = room.num_slots
    wanted.n_batch = wanted.n_ubatch = NUM_TOKENS_PER_TURN
    wanted.cpuparams.n_threads = wanted.cpuparams_batch.n_threads = num_threads
    wanted.cache_ram_mib = MAX_CACHE_MIB
    wanted.no_extra_bufts = not has_room_for_copy(file)
    wanted.warmup = False
    wanted.verbosity = CHATTY if logger.isEnabledFor(logging.DEBUG) else SILENT
    # Vectors of texts are means over their tokens. They cost answers nothing: only batches that ask compute them.
    wanted.embedding = True
    wanted.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN  # pyright: ignore
    wanted.lora_adapters = [_adapter(one) for one in adapters]
    wanted.lora_init_without_apply = True
    # xllamacpp always opens an HTTP port. Ours is the loopback's, chosen by the system, without pages,
    # and behind a key that nobody knows.
    wanted.hostnames = ["127.0.0.1"]
    wanted.port = 0
    wanted.api_keys = [secrets.token_urlsafe(32)]
    wanted.ui = wanted.endpoint_slots = False
    wanted.n_threads_http = 1
    try:
        server: Server = xllamacpp.Server(wanted)  # pyright: ignore[reportAttributeAccessIssue]
    except RuntimeError as error:
        raise InputError(
            f"llama.cpp cannot open the model with {room.num_slots} x {room.num_ctx:,} tokens of context: {error}",
            where=str(file),
            fix="use a smaller context or model if memory is short, else convert it again; --debug says more",
        ) from error
    # A server that is freed before its loop has begun waits for ever for the loop's end: one token proves it runs.
    server.handle_completions({"prompt": [0], "stream": True, "max_tokens": 1}, lambda chunk: False)
    return server


class Task:
    """One request; it is worked on by whoever calls `run`, and may be cancelled by anybody."""

    def __init__(self, server: Server, request: dict[str, Any]) -> None:
        self._server = server
        self._request = request
        self._is_cancelled = threading.Event()
        self._is_done = threading.Event()

    def run(self, receive: Callable[[dict[str, Any]], bool]) -> None:
        """Hand each chunk to `receive`, which returns True when it wants no more."""
        try:
            self._server.handle_completions(self._request, lambda chunk: receive(chunk) or self._is_cancelled.is_set())
        finally:
            self._is_done.set()

    def cancel(self) -> None:
        """Stop at the next token, or after the tokens of the prompt that are being read."""
        self._is_cancelled.set()

    def join(self) -> None:
        """Wait for its end."""
        self._is_done.wait()


class Chunks:
    """The chunks of a task that runs on a thread of its own; they wait in a queue, None after the last.

    The thread is not a daemon: Python waits for it at exit, because ending a thread inside C++ ends the process.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="llama.cpp answer").start()

    def next(self) -> dict[str, Any] | None:
        """Wait for the next chunk."""
        return self._queue.get()

    def _run(self) -> None:
        try:
            self._task.run(self._receive)
        finally:
            self._queue.put(None)

    def _receive(self, chunk: dict[str, Any]) -> bool:
        self._queue.put(chunk)
        return False


def _adapter(file: Path) -> object:
    info = xllamacpp.CommonAdapterLoraInfo()  # pyright: ignore[reportAttributeAccessIssue]
    info.path, info.scale = str(file), 0.0
    return info
