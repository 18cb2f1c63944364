"""Log-probabilities from a GGUF file on llama.cpp, in this process.

t tokens, v vocabulary.
"""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from baihua.backends.llama_cpp.library import default_num_threads, has_memory_for_copy
from baihua.backends.llama_cpp.network import Network
from baihua.backends.token_ids import check_ids
from baihua.core.errors import RunError


def open_scorer(file: Path, num_threads: int | None = None) -> "LlamaCppScorer":
    """A Scorer on a GGUF file, with the same arithmetic as the chat, 8-bit activations included."""
    return LlamaCppScorer(file, num_threads=num_threads or default_num_threads())


class LlamaCppScorer:
    """Log-probabilities of texts; thread-safe, one call at a time."""

    def __init__(self, file: Path, *, num_threads: int) -> None:
        self.name = file.stem
        self._file = file
        self._num_threads = num_threads
        self._lock = threading.Lock()
        self._network: Network | None = self._open(1024)

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

    def _open(self, num_ctx: int) -> Network:
        has_copy = has_memory_for_copy(self._file)
        return Network(self._file, num_ctx=num_ctx, num_threads=self._num_threads, has_second_copy=has_copy)

    def _network_for(self, ids: Sequence[int]) -> Network:
        """The network, reopened with a larger context if `ids` need one."""
        network = self._network
        if network is None:
            raise RunError(f"the model {self.name} is closed", fix="open it again")
        check_ids(
            ids,
            "a text to score",
            max_tokens=network.num_ctx_trained,
            num_tokens=network.num_tokens,
            model=self.name,
        )
        if len(ids) > network.num_ctx:
            network.close()
            network = self._network = self._open(2 * len(ids))
        return network
