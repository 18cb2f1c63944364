"""The logits of a GGUF model on llama.cpp, for whole texts and token by token.

t tokens, v vocabulary.
"""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from baihua.backends.llama_cpp.library import load_model, open_library, pause_openmp, wrong_build
from baihua.core.errors import RunError
from baihua.modelfiles.gguf_header import read_model_header

NUM_BATCH_TOKENS = 512


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
        """Load a model with `num_ctx` tokens of context, or as many as it was trained with.

        `num_outputs` is the number of logits rows that llama.cpp allocates: 1 is enough for `feed`, not for `logits`.
        For `has_second_copy` see `load_model`.
        """
        read_model_header(file)
        self._library = open_library()
        self._model = load_model(self._library, file, vocab_only=False, has_second_copy=has_second_copy)
        self._num_past = 0
        self.num_tokens: int = self._library.llama_vocab_n_tokens(self._library.llama_model_get_vocab(self._model))
        self.num_ctx_trained: int = self._library.llama_model_n_ctx_train(self._model)
        self.num_ctx = min(num_ctx, self.num_ctx_trained)
        self._context = open_context(
            self._library, self._model, num_ctx=self.num_ctx, num_threads=num_threads, num_outputs=num_outputs
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
        """Append `ids` to the text read since `forget`; logits_v, float32, of the token after the last of them."""
        assert 0 < len(ids) <= self.num_ctx - self._num_past, "the caller checks the length"
        for start in range(0, len(ids), NUM_BATCH_TOKENS):
            self._decode(ids[start : start + NUM_BATCH_TOKENS], num_outputs=1)
        return self._logits_at((len(ids) - 1) % NUM_BATCH_TOKENS).copy()

    def forget(self) -> None:
        """Start a new text."""
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), True)
        self._num_past = 0

    def close(self) -> None:
        """Free the model, which cannot be used afterwards."""
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
                fix="check that the token ids are of this model; if they are, free some memory",
            )
        self._num_past += len(ids)

    def _logits_at(self, i: int) -> np.ndarray:
        """Logits_v of the batch's token i, in llama.cpp's own memory, which the next batch overwrites."""
        row = self._library.llama_get_logits_ith(self._context, i)
        return np.ctypeslib.as_array(row, shape=(self.num_tokens,))


def open_context(
    library: SimpleNamespace, model: int, *, num_ctx: int, num_threads: int, num_outputs: int = NUM_BATCH_TOKENS
) -> int:
    """A handle to a context with room for `num_outputs` logits rows in a batch, to be freed with llama_free."""
    params = library.llama_context_default_params()
    params.n_ctx = num_ctx
    params.n_batch = params.n_ubatch = NUM_BATCH_TOKENS
    params.n_outputs_max = params.n_outputs_max_per_seq = num_outputs
    params.n_threads = params.n_threads_batch = num_threads
    context = library.llama_init_from_model(model, params)
    if not context:
        raise RunError(
            f"llama.cpp could not open a context of {num_ctx:,} tokens",
            fix="memory may be short: close other programs or use a smaller model",
        )
    if library.llama_n_ctx(context) < num_ctx or library.llama_n_threads(context) != num_threads:
        raise wrong_build("the context has another size or number of threads than was set")
    return context
