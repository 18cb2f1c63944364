"""llama.cpp's server loop in this process: one model, several answers at once."""

import logging
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import xllamacpp

from baihua.backends.guidance import LARK_MARK
from baihua.backends.llama_cpp.library import has_memory_for_copy, pause_openmp
from baihua.core.errors import InputError
from baihua.core.log import logger

# Limit of the saved states of conversations that lost their slot; llama.cpp's own is 8 GiB.
MAX_CACHE_MIB = 1024
# Prompt tokens read per turn of the loop; between turns other answers go on and cancellations take effect. With
# llama.cpp's own 2,048 the others would wait for seconds.
NUM_TOKENS_PER_TURN = 512
# Verbosity of llama.cpp's server, whose default is 3.
SILENT, VERBOSE = 0, 3


class Server(Protocol):
    """The methods we use of xllamacpp's server, which is compiled and untyped."""

    def handle_completions(self, request: dict[str, Any], receive: Callable[[dict[str, Any]], bool]) -> None:
        """Answer a request; `receive` gets each chunk and returns True to stop."""
        ...

    def handle_embeddings(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return one vector per input."""
        ...


def has_llguidance() -> bool:
    """Whether this build of llama.cpp reads grammars in Lark; one without it ends the process on such a grammar."""
    return xllamacpp.json_schema_to_grammar({}).startswith(LARK_MARK)  # pyright: ignore


def open_server(file: Path, *, num_ctx: int, num_slots: int, num_threads: int, adapters: Sequence[Path] = ()) -> Server:
    """Start llama.cpp's server loop on its own thread, for `num_slots` answers at once of `num_ctx` tokens each.

    Adapters are GGUF files; each is off unless a request enables it.
    """
    pause_openmp()
    params = xllamacpp.CommonParams()  # pyright: ignore[reportAttributeAccessIssue]
    params.model.path = str(file)
    params.n_ctx = num_ctx * num_slots
    params.n_parallel = num_slots
    params.n_batch = params.n_ubatch = NUM_TOKENS_PER_TURN
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = num_threads
    params.cache_ram_mib = MAX_CACHE_MIB
    params.no_extra_bufts = not has_memory_for_copy(file)
    params.warmup = False
    params.verbosity = VERBOSE if logger.isEnabledFor(logging.DEBUG) else SILENT
    # The vector of a text is the mean over its tokens. Answers pay nothing for it: only batches that ask compute it.
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN  # pyright: ignore
    params.lora_adapters = [_adapter(one) for one in adapters]
    params.lora_init_without_apply = True
    # xllamacpp always opens an HTTP port. Ours is on the loopback, chosen by the system, without pages, and behind a
    # secret key.
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [secrets.token_urlsafe(32)]
    params.ui = params.endpoint_slots = False
    params.n_threads_http = 1
    try:
        server: Server = xllamacpp.Server(params)  # pyright: ignore[reportAttributeAccessIssue]
    except RuntimeError as error:
        raise InputError(
            f"llama.cpp cannot open the model with {num_slots} x {num_ctx:,} tokens of context: {error}",
            where=str(file),
            fix="use a smaller context or model if memory is short, else convert the model again; --debug shows more",
        ) from error
    # A server that is freed before its loop has started waits forever for the loop to end: one token proves it runs.
    server.handle_completions({"prompt": [0], "stream": True, "max_tokens": 1}, lambda chunk: False)
    return server


def _adapter(file: Path) -> object:
    info = xllamacpp.CommonAdapterLoraInfo()  # pyright: ignore[reportAttributeAccessIssue]
    info.path, info.scale = str(file), 0.0
    return info
