"""Chat and scores from a GGUF file on llama.cpp, in this process.

t tokens, v vocabulary.
"""

import logging
import queue
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil
import xllamacpp

from baihua.backends.gguf_tokenizer import GgufTokenizer
from baihua.backends.llama_cpp_api import Network
from baihua.backends.llama_cpp_library import pause_openmp
from baihua.chat.render import encode, render
from baihua.chat.types import Message, Piece, Sampling, Usage
from baihua.core.errors import InputError, RunError, TooLongError
from baihua.core.gguf_header import read_model_header
from baihua.core.log import logger
from baihua.core.memory import free_memory_bytes

# llama.cpp keeps the state of conversations that left their slot; its own limit is 8 GiB.
MAX_CACHE_MIB = 1024
# Verbosity of llama.cpp's server: 0 is silent, 3 its default.
SILENT, CHATTY = 0, 3


def open_chat(file: Path, *, num_threads: int | None = None, num_ctx: int = 4096, num_slots: int = 1) -> "LlamaCppChat":
    """A ChatModel on a GGUF file: `num_slots` answers at once, each of at most `num_ctx` tokens with its prompt."""
    num_ctx = min(num_ctx, read_model_header(file).size("context_length"))
    num_threads = num_threads or default_num_threads()
    server = open_server(file, num_threads=num_threads, num_ctx=num_ctx, num_slots=num_slots)
    return LlamaCppChat(file, server, num_ctx=num_ctx)


def open_scorer(file: Path, num_threads: int | None = None) -> "LlamaCppScorer":
    """A Scorer on a GGUF file; it computes exactly what the chat computes, activations in 8 bit included."""
    return LlamaCppScorer(file, num_threads=num_threads or default_num_threads())


def default_num_threads() -> int:
    """Physical cores: hyper-threads make llama.cpp slower."""
    return psutil.cpu_count(logical=False) or 1


def has_room_for_copy(file: Path) -> bool:
    """Whether llama.cpp may keep weights in a second order beside the mapped file, which makes it faster.

    Where both do not fit, the system reads the file anew for every token: a 7B of q3_k_m under a limit of 4 GiB read
    1.5 GB a token with the copy and nothing without it, 0.7 against 2.5 tokens/s (docs/log.md, 2026-11-26).
    """
    return 2 * file.stat().st_size < free_memory_bytes()


class Server(Protocol):
    """What we use of xllamacpp's server, which is compiled and without types."""

    def handle_completions(self, request: dict[str, Any], receive: Callable[[dict[str, Any]], bool]) -> None:
        """Answer a request; `receive` gets each chunk and returns True to stop."""
        ...


def open_server(file: Path, *, num_threads: int, num_ctx: int, num_slots: int) -> Server:
    """llama.cpp's server loop on its own thread, with room for `num_ctx` tokens in each slot."""
    pause_openmp()
    wanted = xllamacpp.CommonParams()  # pyright: ignore[reportAttributeAccessIssue]
    wanted.model.path = str(file)
    wanted.n_ctx = num_ctx * num_slots
    wanted.n_parallel = num_slots
    wanted.cpuparams.n_threads = wanted.cpuparams_batch.n_threads = num_threads
    wanted.cache_ram_mib = MAX_CACHE_MIB
    wanted.no_extra_bufts = not has_room_for_copy(file)
    wanted.warmup = False
    wanted.verbosity = CHATTY if logger.isEnabledFor(logging.DEBUG) else SILENT
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
            f"llama.cpp cannot open the model with {num_slots} x {num_ctx:,} tokens of context: {error}",
            where=str(file),
            fix="use a smaller context or model if memory is short, else convert it again; --debug says more",
        ) from error
    # A server that is freed before its loop has begun waits for ever for the loop's end: one token proves it runs.
    server.handle_completions({"prompt": [0], "stream": True, "max_tokens": 1}, lambda chunk: False)
    return server


class LlamaCppChat:
    """Answers conversations with llama.cpp's server loop; safe to use from many threads."""

    def __init__(self, file: Path, server: Server, *, num_ctx: int) -> None:
        self.name = file.stem
        self.num_ctx = num_ctx
        self.tokenizer = GgufTokenizer(file)
        self.template = self.tokenizer.template()
        self._lock = threading.Lock()
        self._jobs: set[_Job] = set()
        self._server: Server | None = server

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Piece]:
        """Yield the answer piece by piece; closing the iterator cancels the work at the next token."""
        self._check_open()
        spans = render(messages, self.template, for_answer=True)
        ids = encode(spans, self.tokenizer).ids
        if len(ids) >= self.num_ctx:
            raise TooLongError(
                f"the conversation has {len(ids):,} tokens, the context holds {self.num_ctx:,} with the answer",
                where=f"model {self.name}",
                fix="start a new conversation, shorten the messages, or open the model with a larger context",
            )
        return self._pieces(_request(ids, sampling, self.num_ctx))

    def close(self) -> None:
        """Cancel what runs and free the model."""
        with self._lock:
            server, self._server = self._server, None
            jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        for job in jobs:
            job.join()
        if server is not None:
            self.tokenizer.close()

    def _pieces(self, request: dict[str, Any]) -> Iterator[Piece]:
        job = self._start(request)
        try:
            while (chunk := job.next()) is not None:
                piece = _read(chunk)
                if piece.text or piece.finish_reason:
                    yield piece
                if piece.finish_reason:
                    return
            raise RunError("llama.cpp ended an answer before it was complete", where=f"model {self.name}")
        finally:
            job.cancel()
            with self._lock:
                self._jobs.discard(job)

    def _start(self, request: dict[str, Any]) -> "_Job":
        with self._lock:
            job = _Job(self._check_open(), request)
            self._jobs.add(job)
        job.start()
        return job

    def _check_open(self) -> Server:
        if self._server is None:
            raise RunError(f"the model {self.name} is closed", fix="open it again")
        return self._server


class LlamaCppScorer:
    """Log-probabilities of texts; calls from several threads take turns."""

    def __init__(self, file: Path, *, num_threads: int) -> None:
        self.name = file.stem
        self._file = file
        self._num_threads = num_threads
        self._lock = threading.Lock()
        self._network: Network | None = self._open(1024)

    def log_probs(self, ids: Sequence[int]) -> np.ndarray:
        """Natural-log probabilities_tv, float32: row t is the distribution of the token after ids[: t + 1]."""
        with self._lock:
            logits_tv = self._fitting(ids).logits(ids)
        logits_tv -= logits_tv.max(axis=1, keepdims=True)
        for row_v in logits_tv:  # row by row, because a second table of this size may not fit
            row_v -= np.log(np.exp(row_v).sum(dtype=np.float64))
        return logits_tv

    def close(self) -> None:
        """Free the model."""
        with self._lock:
            if self._network is not None:
                self._network.close()
            self._network = None

    def _open(self, num_ctx: int) -> Network:
        has_copy = has_room_for_copy(self._file)
        return Network(self._file, num_ctx=num_ctx, num_threads=self._num_threads, has_second_copy=has_copy)

    def _fitting(self, ids: Sequence[int]) -> Network:
        """The network with room for `ids`; a longer text than before opens a larger context."""
        network = self._network
        if network is None:
            raise RunError(f"the model {self.name} is closed", fix="open it again")
        if not 0 < len(ids) <= network.num_ctx_trained:
            raise InputError(
                f"a text of {len(ids):,} tokens cannot be scored, expected 1 to {network.num_ctx_trained:,}",
                where=f"model {self.name}",
                fix="cut the text into parts",
            )
        if min(ids) < 0 or max(ids) >= network.num_tokens:
            raise InputError(
                f"token ids from {min(ids)} to {max(ids)} are not all of this model's {network.num_tokens:,} tokens",
                where=f"model {self.name}",
                fix="encode the text with this model's own tokenizer",
            )
        if len(ids) > network.num_ctx:
            network.close()
            network = self._network = self._open(2 * len(ids))
        return network


class _Job:
    """One request on its own thread; chunks arrive in a queue, None after the last.

    The thread is not a daemon: Python waits for it at exit, because ending a thread inside C++ ends the process.
    """

    def __init__(self, server: Server, request: dict[str, Any]) -> None:
        self._server = server
        self._request = request
        self._chunks: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._is_cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llama.cpp answer")

    def start(self) -> None:
        self._thread.start()

    def next(self) -> dict[str, Any] | None:
        return self._chunks.get()

    def cancel(self) -> None:
        self._is_cancelled.set()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            self._server.handle_completions(self._request, self._receive)
        finally:
            self._chunks.put(None)

    def _receive(self, chunk: dict[str, Any]) -> bool:
        """Take a chunk; True tells llama.cpp to stop."""
        self._chunks.put(chunk)
        return self._is_cancelled.is_set()


def _request(ids: list[int], sampling: Sampling, num_ctx: int) -> dict[str, Any]:
    is_repeatable = sampling.temperature == 0 or sampling.seed is not None
    request = {
        "prompt": ids,
        "stream": True,
        "max_tokens": min(sampling.max_tokens, num_ctx - len(ids)),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": 0.0,  # llama.cpp's own default is 0.05, which Sampling does not promise
        "repeat_penalty": sampling.repeat_penalty,
        "repeat_last_n": 64,  # how far back the penalty looks: llama.cpp's default, named so that it stays
        "stop": list(sampling.stop),
        # A prompt that is partly in the cache is summed up in another order, which can flip a close choice.
        # An answer that must repeat starts from nothing; the price is reading the whole prompt again.
        "cache_prompt": not is_repeatable,
    }
    return request if sampling.seed is None else request | {"seed": sampling.seed}


def _read(chunk: dict[str, Any]) -> Piece:
    if "error" in chunk:
        raise RunError(f"llama.cpp refused a request: {chunk['error'].get('message', chunk['error'])}")
    choice = chunk["choices"][0]
    if not choice["finish_reason"]:
        return Piece(choice["text"])
    usage = chunk["usage"]
    return Piece(
        choice["text"],
        finish_reason="length" if choice["finish_reason"] == "length" else "stop",
        usage=Usage(usage["prompt_tokens"], usage["completion_tokens"]),
    )
