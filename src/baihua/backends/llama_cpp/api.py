"""llama.cpp's C API in our terms: the tokens of a GGUF file, and the logits of every position.

t tokens, v vocabulary.
"""

import ctypes
from collections.abc import Sequence
from ctypes import c_int32
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from baihua.backends.llama_cpp.library import open_library, other_build, pause_openmp
from baihua.core.errors import InputError, RunError
from baihua.modelfiles.gguf_header import read_model_header

NUM_BATCH_TOKENS = 512


class Vocabulary:
    """The tokens of a GGUF file, loaded without its weights; safe to use from many threads."""

    def __init__(self, file: Path) -> None:
        read_model_header(file)
        self._library = open_library()
        self._model = load_model(self._library, file, vocab_only=True)
        self._vocab = self._library.llama_model_get_vocab(self._model)
        self.num_tokens: int = self._library.llama_vocab_n_tokens(self._vocab)

    @property
    def bos_id(self) -> int | None:
        """The begin-of-sequence token, whether or not texts start with it."""
        return self._known(self._library.llama_vocab_bos(self._vocab))

    @property
    def eos_id(self) -> int | None:
        """The end-of-sequence token."""
        return self._known(self._library.llama_vocab_eos(self._vocab))

    @property
    def adds_bos(self) -> bool:
        """Whether the model wants the begin-of-sequence token before every text."""
        return self._library.llama_vocab_get_add_bos(self._vocab)

    @property
    def chat_template(self) -> str | None:
        """The Jinja chat template inside the file."""
        text = self._library.llama_model_chat_template(self._model, None)
        return text.decode("utf-8") if text is not None else None

    def controls(self) -> dict[str, int]:
        """Every control token and its id."""
        ids = range(self.num_tokens)
        return {self.text(i): i for i in ids if self._library.llama_vocab_is_control(self._vocab, i)}

    def end_ids(self) -> list[int]:
        """Tokens at which llama.cpp ends an answer."""
        return [i for i in range(self.num_tokens) if self._library.llama_vocab_is_eog(self._vocab, i)]

    def text(self, token_id: int) -> str:
        """The token as it is written in the vocabulary."""
        return self._library.llama_vocab_get_text(self._vocab, token_id).decode("utf-8", errors="replace")

    def encode(self, text: str) -> list[int]:
        """Ids of plain text: no control token is read from it and none is added."""
        data = text.encode("utf-8")
        # No token stands for less than a byte; SentencePiece may put one space in front.
        ids = (c_int32 * (len(data) + 2))()
        count = self._library.llama_tokenize(self._vocab, data, len(data), ids, len(ids), False, False)
        assert count >= 0, "more tokens than bytes"
        return ids[:count]

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for; controls give none."""
        num_bytes = 64
        while True:
            piece = ctypes.create_string_buffer(num_bytes)
            count = self._library.llama_token_to_piece(self._vocab, token_id, piece, num_bytes, 0, False)
            if count >= 0:
                return piece.raw[:count]
            num_bytes = -count

    def close(self) -> None:
        """Free the vocabulary; using it afterwards is a mistake."""
        if self._model is not None:
            self._library.llama_model_free(self._model)
        self._model = self._vocab = None

    def _known(self, token_id: int) -> int | None:
        return token_id if token_id >= 0 else None


class Network:
    """A loaded model with one context; for one thread at a time."""

    def __init__(
        self,
        file: Path,
        *,
        num_ctx: int,
        num_threads: int,
        num_outputs: int = NUM_BATCH_TOKENS,
        has_second_copy: bool = True,
    ) -> None:
        """`num_outputs` is how many rows of logits llama.cpp makes room for; 1 does for `feed`, not for `logits`.

        `has_second_copy` lets llama.cpp keep some weights in another order too, which is faster but needs their memory
        again.
        """
        read_model_header(file)
        self._library = open_library()
        self._model = load_model(self._library, file, vocab_only=False, has_second_copy=has_second_copy)
        self._num_past = 0
        self.num_tokens: int = self._library.llama_vocab_n_tokens(self._library.llama_model_get_vocab(self._model))
        self.num_ctx_trained: int = self._library.llama_model_n_ctx_train(self._model)
        self.num_ctx = min(num_ctx, self.num_ctx_trained)
        self._context = open_context(
            *(self._library, self._model), num_ctx=self.num_ctx, num_threads=num_threads, num_outputs=num_outputs
        )
        self._batch = self._library.llama_batch_init(NUM_BATCH_TOKENS, 0, 1)

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Logits_tv, float32, of the token after each of `ids`."""
        assert 0 < len(ids) <= self.num_ctx, "the caller checks the length"
        pause_openmp()
        self.forget()
        logits_tv = np.empty((len(ids), self.num_tokens), dtype=np.float32)
        for start in range(0, len(ids), NUM_BATCH_TOKENS):
            part = ids[start : start + NUM_BATCH_TOKENS]
            self._decode(part, num_outputs=len(part))
            for i in range(len(part)):
                logits_tv[start + i] = self._logits_at(i)
        return logits_tv

    def feed(self, ids: Sequence[int]) -> np.ndarray:
        """Read `ids` after what was read since `forget`; logits_v, float32, of the token after the last of them."""
        assert 0 < len(ids) <= self.num_ctx - self._num_past, "the caller checks the length"
        for start in range(0, len(ids), NUM_BATCH_TOKENS):
            self._decode(ids[start : start + NUM_BATCH_TOKENS], num_outputs=1)
        return self._logits_at((len(ids) - 1) % NUM_BATCH_TOKENS).copy()

    def forget(self) -> None:
        """Begin a new text."""
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), True)
        self._num_past = 0

    def close(self) -> None:
        """Free the model; using it afterwards is a mistake."""
        if self._model is not None:
            self._library.llama_batch_free(self._batch)
            self._library.llama_free(self._context)
            self._library.llama_model_free(self._model)
        self._model = self._context = None

    def _decode(self, ids: Sequence[int], *, num_outputs: int) -> None:
        """Read tokens after those before; logits are computed for the last `num_outputs` of them."""
        batch = self._batch
        batch.n_tokens = len(ids)
        for i, token_id in enumerate(ids):
            batch.token[i] = token_id
            batch.pos[i] = self._num_past + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = i >= len(ids) - num_outputs
        status = self._library.llama_decode(self._context, batch)
        if status != 0:
            raise RunError(
                f"llama.cpp could not compute {len(ids)} tokens (status {status})",
                fix="token ids must be of this model; if they are, the machine may be out of memory",
            )
        self._num_past += len(ids)

    def _logits_at(self, i: int) -> np.ndarray:
        """The logits_v of the batch's token i, in llama.cpp's own memory: the next batch overwrites them."""
        row = self._library.llama_get_logits_ith(self._context, i)
        return np.ctypeslib.as_array(row, shape=(self.num_tokens,))


def load_model(library: SimpleNamespace, file: Path, *, vocab_only: bool, has_second_copy: bool = True) -> int:
    """A handle of the model, to be freed with llama_model_free."""
    wanted = library.llama_model_default_params()
    wanted.vocab_only = vocab_only
    wanted.use_extra_bufts = has_second_copy
    model = library.llama_model_load_from_file(str(file).encode("utf-8"), wanted)
    if not model:
        raise InputError(
            "llama.cpp cannot load the model: a tensor or a part of the tokenizer is missing or of another size",
            where=str(file),
            fix="download or convert it again; --debug shows llama.cpp's own messages",
        )
    # Without weights llama.cpp stops before it reads the sizes: that tells whether the flag was understood.
    if (library.llama_model_n_embd(model) == 0) != vocab_only:
        library.llama_model_free(model)
        raise other_build("the flag vocab_only has no effect")
    return model


def open_context(
    library: SimpleNamespace, model: int, *, num_ctx: int, num_threads: int, num_outputs: int = NUM_BATCH_TOKENS
) -> int:
    """A handle of a context that gives the logits of `num_outputs` tokens at once, to be freed with llama_free."""
    wanted = library.llama_context_default_params()
    wanted.n_ctx = num_ctx
    wanted.n_batch = wanted.n_ubatch = NUM_BATCH_TOKENS
    wanted.n_outputs_max = wanted.n_outputs_max_per_seq = num_outputs
    wanted.n_threads = wanted.n_threads_batch = num_threads
    context = library.llama_init_from_model(model, wanted)
    if not context:
        raise RunError(
            f"llama.cpp could not open a context of {num_ctx:,} tokens",
            fix="close other programs or use a smaller model: the memory may not suffice",
        )
    if library.llama_n_ctx(context) < num_ctx or library.llama_n_threads(context) != num_threads:
        raise other_build("the context's size and thread count are not what was set")
    return context
