"""Chat from a GGUF file on llama.cpp, in this process."""

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from llguidance import LLTokenizer

from baihua.backends.guidance import Guide, read_grammar, read_vocabulary
from baihua.backends.llama_cpp.server import (
    NUM_TOKENS_PER_TURN,
    Chunks,
    Room,
    Server,
    Task,
    default_num_threads,
    has_llguidance,
    open_server,
)
from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
from baihua.backends.llama_cpp.wire import check_answer, read_piece, request_of
from baihua.chat.render import encode, render
from baihua.chat.types import Guidance, Message, Piece, Sampling, Span
from baihua.core.errors import BaihuaError, InputError, RunError, TooLongError
from baihua.modelfiles.gguf_header import read_model_header

NO_GUIDANCE = Guidance()


def open_chat(
    file: Path,
    *,
    num_threads: int | None = None,
    num_ctx: int = 4096,
    num_slots: int = 1,
    adapters: Mapping[str, Path] | None = None,
) -> "LlamaCppChat":
    """A ChatModel on a GGUF file: `num_slots` answers at once, each of at most `num_ctx` tokens with its prompt.

    `adapters` are GGUF files of LoRA adapters by the names that a Guidance may give.
    """
    room = Room(min(num_ctx, read_model_header(file).size("context_length")), num_slots)
    given = dict(adapters or {})
    server = open_server(file, room, num_threads=num_threads or default_num_threads(), adapters=list(given.values()))
    return LlamaCppChat(file, server, room, adapters=list(given))


class LlamaCppChat:
    """Answers conversations with llama.cpp's server loop; safe to use from many threads."""

    def __init__(self, file: Path, server: Server, room: Room, *, adapters: Sequence[str] = ()) -> None:
        self.name = file.stem
        self.num_ctx = room.num_ctx
        self.num_slots = room.num_slots
        self.adapters = tuple(adapters)
        self.tokenizer = GgufTokenizer(file)
        self.template = self.tokenizer.template()
        self._lock = threading.Lock()
        self._tasks: set[Task] = set()
        self._server: Server | None = server

    def prompt(self, messages: Sequence[Message]) -> list[Span]:
        """The conversation as the model reads it, up to where its answer begins."""
        return render(messages, self.template, for_answer=True)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """How many tokens that prompt has."""
        return len(self._ids(messages))

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Piece]:
        """Yield the answer piece by piece; closing the iterator cancels the work at the next token."""
        return _filled(self.generate(self._ids(messages), sampling))

    def generate(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance = NO_GUIDANCE) -> Generator[Piece]:
        """Yield what follows these tokens, piece by piece; closing the iterator cancels the work.

        While a long prompt is read, empty pieces give whoever waits the chance to leave. A grammar or schema that
        cannot be read is an InputError, of this call or of the first piece.
        """
        return self._pieces(self._asked(ids, sampling, guidance))

    def run(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance, receive: Callable[[Piece], bool]) -> None:
        """The same on the caller's own thread: `receive` gets each piece, and returns True when it wants no more.

        For a server, where each change of threads costs each token (docs/log.md, 2026-11-26).
        """
        task = self._begin(self._asked(ids, sampling, guidance))
        reader = _Reader(receive)
        try:
            task.run(reader.take)
        finally:
            self._end(task)
        reader.check(self.name)

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        """A vector_d of length 1, float32, for a text: the mean of the last layer over its tokens."""
        server = self._check_open()
        if not 0 < len(ids) <= NUM_TOKENS_PER_TURN:
            raise TooLongError(
                f"a text of {len(ids):,} tokens has no vector, expected 1 to {NUM_TOKENS_PER_TURN}",
                where=f"model {self.name}",
                fix="cut the text into parts",
            )
        answer = server.handle_embeddings({"input": [list(ids)]})
        check_answer(answer)
        return np.asarray(answer["data"][0]["embedding"], dtype=np.float32)

    def close(self) -> None:
        """Cancel what runs and free the model."""
        with self._lock:
            server, self._server = self._server, None
            tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for task in tasks:
            task.join()
        if server is not None:
            self.tokenizer.close()

    def _ids(self, messages: Sequence[Message]) -> list[int]:
        self._check_open()  # whose tokenizer is freed as well
        return encode(self.prompt(messages), self.tokenizer).ids

    def _adapted(self, name: str | None) -> dict[str, Any]:
        if name is not None and name not in self.adapters:
            raise InputError(
                f"no adapter of the name {name!r}",
                where=f"model {self.name}",
                fix=f"the known ones: {', '.join(self.adapters) or 'none'}",
            )
        scales = [{"id": i, "scale": float(one == name)} for i, one in enumerate(self.adapters)]
        return {"lora": scales} if scales else {}

    def _asked(self, ids: Sequence[int], sampling: Sampling, guidance: Guidance) -> dict[str, Any]:
        self._check_open()
        if len(ids) >= self.num_ctx:
            raise TooLongError(
                f"the conversation has {len(ids):,} tokens, the context holds {self.num_ctx:,} with the answer",
                where=f"model {self.name}",
                fix="start a new conversation, shorten the messages, or open the model with a larger context",
            )
        self._check_grammar(guidance)
        return request_of(ids, sampling, guidance, num_ctx=self.num_ctx) | self._adapted(guidance.adapter)

    def _check_grammar(self, guidance: Guidance) -> None:
        grammar = read_grammar(guidance)
        if grammar is None or guidance.json_schema is not None:
            return
        if not has_llguidance():
            raise InputError("this build of llama.cpp reads no Lark", fix="write the grammar in GBNF")
        # A grammar may name tokens that are not there, or lead nowhere from its beginning.
        Guide(grammar, self._vocabulary).allowed()

    @cached_property
    def _vocabulary(self) -> LLTokenizer:
        return read_vocabulary(self.tokenizer, num_tokens=self.tokenizer.num_tokens, end_ids=self.tokenizer.end_ids())

    def _pieces(self, request: dict[str, Any]) -> Generator[Piece]:
        task = self._begin(request)
        chunks = Chunks(task)
        try:
            while (chunk := chunks.next()) is not None:
                piece = read_piece(chunk)
                yield piece
                if piece.finish_reason:
                    return
            raise _broken_off(self.name)
        finally:
            task.cancel()
            self._end(task)

    def _begin(self, request: dict[str, Any]) -> Task:
        with self._lock:
            task = Task(self._check_open(), request)
            self._tasks.add(task)
        return task

    def _end(self, task: Task) -> None:
        with self._lock:
            self._tasks.discard(task)

    def _check_open(self) -> Server:
        if self._server is None:
            raise RunError(f"the model {self.name} is closed", fix="open it again")
        return self._server


class _Reader:
    """Turns chunks into pieces; an error is kept until llama.cpp has returned, because none goes through it."""

    def __init__(self, receive: Callable[[Piece], bool]) -> None:
        self._receive = receive
        self._error: BaihuaError | None = None
        self._is_over = False

    def take(self, chunk: dict[str, Any]) -> bool:
        """Pass a chunk on; True when no more are wanted."""
        try:
            piece = read_piece(chunk)
        except BaihuaError as error:
            self._error = error
            return True
        self._is_over = self._receive(piece) or piece.finish_reason is not None
        return self._is_over

    def check(self, name: str) -> None:
        """Raise what was wrong."""
        if self._error is not None:
            raise self._error
        if not self._is_over:
            raise _broken_off(name)


def _broken_off(name: str) -> RunError:
    return RunError("llama.cpp ended an answer before it was complete", where=f"model {name}")


def _filled(pieces: Generator[Piece]) -> Iterator[Piece]:
    """Pieces that say something."""
    with closing(pieces):
        yield from (piece for piece in pieces if piece.text or piece.finish_reason)
