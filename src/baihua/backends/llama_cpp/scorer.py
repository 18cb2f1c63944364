"""Logits and log-probabilities of a GGUF model on llama.cpp, in this process.

t tokens, v vocabulary.
"""

import threading
from collections.abc import Sequence
from ctypes import c_int8, c_int32
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from baihua.backends.llama_cpp.library import (
    LlamaBatch,
    default_num_threads,
    has_memory_for_copy,
    load_model,
    open_library,
    pause_openmp,
    wrong_build,
)
from baihua.backends.token_ids import check_ids
from baihua.core.errors import RunError
from baihua.modelfiles.gguf_header import read_model_header

MAX_BATCH = 512
"""Tokens that are read at once."""


def open_scorer(file: Path, num_threads: int | None = None) -> "LlamaCppScorer":
    """A Scorer on a GGUF file, with the same arithmetic as the chat, 8-bit activations included."""
    return LlamaCppScorer(file, num_threads=num_threads or default_num_threads())


class LlamaCppScorer:
    """Log-probabilities of texts; thread-safe, one call at a time."""

    def __init__(self, file: Path, *, num_threads: int) -> None:
        self.name = file.stem
        self._open = partial(Network, file, num_threads=num_threads, has_second_copy=has_memory_for_copy(file))
        self._lock = threading.Lock()
        self._network: Network | None = self._open(num_ctx=1024)

    def log_probs(self, ids: Sequence[int]) -> np.ndarray:
        """Natural-log probabilities_tv, float32: row t is the distribution of the token after ids[: t + 1]."""
        with self._lock:
            logits_tv = self._network_for(ids).logits(ids)
        logits_tv -= logits_tv.max(axis=1, keepdims=True)
        for row_v in logits_tv:  # row by row, because a second array of this size may not fit into memory
            row_v -= np.log(np.exp(row_v).sum(dtype=np.float64))
        return logits_tv

    def close(self) -> None:
        """Free the model."""
        with self._lock:
            if self._network is not None:
                self._network.close()
            self._network = None

    def _network_for(self, ids: Sequence[int]) -> "Network":
        """The network, reopened with a larger context if `ids` need one."""
        network = self._network
        if network is None:
            raise RunError(f"the model {self.name} is closed", fix="open it again")
        limits = {"max_tokens": network.num_ctx_trained, "num_tokens": network.num_tokens}
        check_ids(ids, "a text to score", **limits, model=self.name)
        if len(ids) > network.num_ctx:
            network.close()
            network = self._network = self._open(num_ctx=2 * len(ids))
        return network


class Network:
    """A loaded model with one context; for one thread at a time."""

    def __init__(
        self, file: Path, *, num_ctx: int, num_threads: int, num_outputs: int = MAX_BATCH, has_second_copy: bool = True
    ) -> None:
        """Load a model with `num_ctx` tokens of context, or as many as it was trained with.

        `num_outputs` is the number of logits rows that llama.cpp allocates: 1 is enough for `feed`, not for `logits`.
        For `has_second_copy` see `load_model`.
        """
        read_model_header(file)
        self._library = open_library()
        self._model = load_model(self._library, file, vocab_only=False, has_second_copy=has_second_copy)
        self.num_tokens: int = self._library.llama_vocab_n_tokens(self._library.llama_model_get_vocab(self._model))
        self.num_ctx_trained: int = self._library.llama_model_n_ctx_train(self._model)
        self.num_ctx = min(num_ctx, self.num_ctx_trained)
        self._context = open_context(
            self._library, self._model, num_ctx=self.num_ctx, num_threads=num_threads, num_outputs=num_outputs
        )

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Logits_tv, float32, of the token after each of `ids`."""
        assert 0 < len(ids) <= self.num_ctx, "the caller checks the length"
        pause_openmp()
        self.forget()
        logits_tv = np.empty((len(ids), self.num_tokens), dtype=np.float32)
        for start in range(0, len(ids), MAX_BATCH):
            part = ids[start : start + MAX_BATCH]
            self._decode(part, num_outputs=len(part))
            for i in range(len(part)):
                logits_tv[start + i] = self._logits_at(i)
        return logits_tv

    def feed(self, ids: Sequence[int]) -> np.ndarray:
        """Append `ids` to the text read since `forget`; logits_v, float32, of the token after the last of them."""
        for start in range(0, len(ids), MAX_BATCH):
            self._decode(ids[start : start + MAX_BATCH], num_outputs=1)
        return self._logits_at((len(ids) - 1) % MAX_BATCH).copy()

    def forget(self) -> None:
        """Start a new text."""
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), True)

    def close(self) -> None:
        """Free the model, which cannot be used afterwards."""
        if self._model is not None:
            self._library.llama_free(self._context)
            self._library.llama_model_free(self._model)
        self._model = self._context = None

    def _decode(self, ids: Sequence[int], *, num_outputs: int) -> None:
        """Append tokens to the text; logits are computed for the last `num_outputs` of them."""
        num_ids = len(ids)
        has_logits = [i >= num_ids - num_outputs for i in range(num_ids)]
        # Without positions and sequences llama.cpp continues its only sequence.
        batch = LlamaBatch(n_tokens=num_ids, token=(c_int32 * num_ids)(*ids), logits=(c_int8 * num_ids)(*has_logits))
        status = self._library.llama_decode(self._context, batch)
        if status != 0:
            fix = "check that they fit into the context and are of this model; if so, free some memory"
            raise RunError(f"llama.cpp could not compute {num_ids} tokens (status {status})", fix=fix)

    def _logits_at(self, i: int) -> np.ndarray:
        """Logits_v of the batch's token i, in llama.cpp's own memory, which the next batch overwrites."""
        row = self._library.llama_get_logits_ith(self._context, i)
        return np.ctypeslib.as_array(row, shape=(self.num_tokens,))


def open_context(library: SimpleNamespace, model: int, *, num_ctx: int, num_threads: int, num_outputs: int) -> int:
    """A handle to a context with room for `num_outputs` logits rows in a batch, to be freed with llama_free."""
    params = library.llama_context_default_params()
    params.n_ctx = num_ctx
    params.n_batch = params.n_ubatch = MAX_BATCH
    params.n_outputs_max = params.n_outputs_max_per_seq = num_outputs
    params.n_threads = params.n_threads_batch = num_threads
    context = library.llama_init_from_model(model, params)
    if not context:
        fix = "memory may be short: close other programs or use a smaller model"
        raise RunError(f"llama.cpp could not open a context of {num_ctx:,} tokens", fix=fix)
    if library.llama_n_ctx(context) < num_ctx or library.llama_n_threads(context) != num_threads:
        raise wrong_build("the context has another size or number of threads than was set")
    return context
