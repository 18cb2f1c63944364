"""Chat with a GGUF file on llama.cpp, in this process."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from llguidance import LLTokenizer

from baihua.backends.guidance import Guide, read_grammar, read_vocabulary
from baihua.backends.llama_cpp.library import default_num_threads
from baihua.backends.llama_cpp.server import (
    NUM_TOKENS_PER_TURN,
    Server,
    check_answer,
    has_llguidance,
    make_request,
    open_server,
    read_piece,
)
from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
from baihua.backends.token_ids import check_ids
from baihua.chat.render import encode, render
from baihua.chat.types import Guidance, Message, Piece, Sampling, Span
from baihua.core.errors import BaihuaError, InputError, RunError
from baihua.modelfiles.gguf_header import read_model_header


def open_chat(
    file: Path,
    *,
    num_threads: int | None = None,
    num_ctx: int = 4096,
    num_slots: int = 1,
    adapters: Mapping[str, Path] | None = None,
) -> "LlamaCppChat":
    """A ChatModel on a GGUF file: `num_slots` answers at once, each with its prompt of at most `num_ctx` tokens.

    `adapters` are GGUF files of LoRA adapters, by the names that a Guidance may give.
    """
    adapters = adapters or {}
    num_ctx = min(num_ctx, read_model_header(file).size("context_length"))
    num_threads = num_threads or default_num_threads()
    server = open_server(
        file, num_ctx=num_ctx, num_slots=num_slots, num_threads=num_threads, adapters=list(adapters.values())
    )
    return LlamaCppChat(file, server, num_ctx=num_ctx, num_slots=num_slots, adapters=tuple(adapters))


class LlamaCppChat:
    """Answers conversations with llama.cpp's server loop; thread-safe."""

    def __init__(self, file: Path, server: Server, *, num_ctx: int, num_slots: int, adapters: tuple[str, ...]) -> None:
        self.name = file.stem
        self.num_ctx = num_ctx
        self.num_slots = num_slots
        self.adapters = adapters
        self.tokenizer = GgufTokenizer(file)
        self.template = self.tokenizer.template()
        self._server: Server | None = server
        self._num_running = 0
        self._has_changed = threading.Condition()

    def prompt(self, messages: Sequence[Message]) -> list[Span]:
        """The rendered conversation, up to where the answer begins."""
        return render(messages, self.template, for_answer=True)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Number of tokens in that prompt."""
        return len(self._ids(messages))

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Piece]:
        """Yield the answer piece by piece; closing the iterator cancels the work at the next token."""
        return self._pieces(self._request(self._ids(messages), sampling, Guidance()))

    def run(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance, receive: Callable[[Piece], bool]) -> None:
        """Continue these tokens on the caller's thread: `receive` gets each piece and returns True to cancel.

        For servers, where a thread switch per token is expensive (docs/log.md, 2026-11-26). While a long prompt is
        read there are empty pieces, at which the caller may cancel. A grammar or schema that cannot be read raises an
        InputError.
        """
        self._answer(self._request(ids, sampling, guidance), receive)

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        """A vector_d of length 1, float32, for a text: the mean of the last layer over its tokens."""
        server = self._check_open()
        self._check_ids(ids, "a text to embed", max_tokens=NUM_TOKENS_PER_TURN)
        answer = server.handle_embeddings({"input": [list(ids)]})
        check_answer(answer)
        return np.asarray(answer["data"][0]["embedding"], dtype=np.float32)

    def close(self) -> None:
        """Cancel running answers and free the model."""
        with self._has_changed:
            server, self._server = self._server, None
            self._has_changed.wait_for(lambda: self._num_running == 0)
        if server is not None:
            self.tokenizer.close()

    def _ids(self, messages: Sequence[Message]) -> list[int]:
        self._check_open()  # closing frees the tokenizer too
        return encode(self.prompt(messages), self.tokenizer).ids

    def _request(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance) -> dict[str, Any]:
        self._check_open()
        self._check_ids(ids, "the conversation", max_tokens=self.num_ctx - 1)
        if guidance.adapter is not None and guidance.adapter not in self.adapters:
            fix = f"use one of: {', '.join(self.adapters) or 'none'}"
            raise InputError(f"unknown adapter {guidance.adapter!r}", where=f"model {self.name}", fix=fix)
        grammar = read_grammar(guidance)
        if grammar is not None and guidance.json_schema is None:
            if not has_llguidance():
                raise InputError("this build of llama.cpp does not support Lark", fix="write the grammar in GBNF")
            # A grammar may name unknown tokens, or have no valid first token.
            Guide(grammar, self._vocabulary).allowed()
        scales = [{"id": i, "scale": float(name == guidance.adapter)} for i, name in enumerate(self.adapters)]
        return make_request(ids, sampling, guidance, num_ctx=self.num_ctx) | ({"lora": scales} if scales else {})

    def _check_ids(self, ids: Sequence[int], what: str, *, max_tokens: int) -> None:
        check_ids(ids, what, max_tokens=max_tokens, num_tokens=self.tokenizer.num_tokens, model=self.name)

    @cached_property
    def _vocabulary(self) -> LLTokenizer:
        return read_vocabulary(self.tokenizer, num_tokens=self.tokenizer.num_tokens, end_ids=self.tokenizer.end_ids())

    def _pieces(self, request: dict[str, Any]) -> Iterator[Piece]:
        """Answer on another thread, and yield what it puts into a queue; None follows the last item."""
        items: SimpleQueue[Piece | BaihuaError | None] = SimpleQueue()
        is_cancelled = threading.Event()

        def receive(piece: Piece) -> bool:
            items.put(piece)
            return is_cancelled.is_set()

        def work() -> None:
            try:
                self._answer(request, receive)
            except BaihuaError as error:
                items.put(error)
            finally:
                items.put(None)

        # Not a daemon: Python must wait for it at exit, because ending a thread inside C++ ends the process.
        threading.Thread(target=work, name="llama.cpp answer").start()
        try:
            for item in iter(items.get, None):
                if isinstance(item, BaihuaError):
                    raise item
                if item.text or item.finish_reason:
                    yield item
                if item.finish_reason:
                    return
            raise self._incomplete()
        finally:
            is_cancelled.set()

    def _answer(self, request: dict[str, Any], receive: Callable[[Piece], bool]) -> None:
        """Pass an answer to `receive` on this thread; closing the model ends it too."""
        ends: list[BaihuaError | None] = []

        def take(chunk: dict[str, Any]) -> bool:
            try:
                piece = read_piece(chunk)
            except BaihuaError as error:  # raised below, since no exception may pass through llama.cpp
                ends.append(error)
            else:
                if receive(piece) or piece.finish_reason is not None:
                    ends.append(None)
            return bool(ends) or self._server is None

        with self._running() as server:
            server.handle_completions(request, take)
        error = ends[0] if ends else self._incomplete()
        if error is not None:
            raise error

    @contextmanager
    def _running(self) -> Iterator[Server]:
        """Count an answer while it runs, so that `close` can wait for its end."""
        with self._has_changed:
            server = self._check_open()
            self._num_running += 1
        try:
            yield server
        finally:
            with self._has_changed:
                self._num_running -= 1
                self._has_changed.notify_all()

    def _check_open(self) -> Server:
        if self._server is None:
            raise RunError(f"the model {self.name} is closed", fix="open it again")
        return self._server

    def _incomplete(self) -> RunError:
        return RunError("llama.cpp ended an answer before it was complete", where=f"model {self.name}")
