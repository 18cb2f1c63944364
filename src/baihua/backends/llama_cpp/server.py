"""llama.cpp's server loop in this process, its requests and its answers: one model, several answers at once."""

import json
import logging
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import xllamacpp

from baihua.backends.guidance import LARK_MARK
from baihua.backends.llama_cpp.library import has_memory_for_copy, pause_openmp
from baihua.chat.types import Guidance, Likelihood, Piece, Sampling, Usage
from baihua.core.errors import InputError, RunError
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
        what = f"llama.cpp cannot open the model with {num_slots} x {num_ctx:,} tokens of context: {error}"
        fix = "use a smaller context or model if memory is short, else convert the model again; --debug shows more"
        raise InputError(what, where=str(file), fix=fix) from error
    # A server that is freed before its loop has started waits forever for the loop to end: one token proves it runs.
    server.handle_completions({"prompt": [0], "stream": True, "max_tokens": 1}, lambda chunk: False)
    return server


def _adapter(file: Path) -> object:
    info = xllamacpp.CommonAdapterLoraInfo()  # pyright: ignore[reportAttributeAccessIssue]
    info.path, info.scale = str(file), 0.0
    return info


def make_request(ids: Sequence[int], sampling: Sampling, guidance: Guidance, *, num_ctx: int) -> dict[str, Any]:
    """A completion request in llama.cpp's fields, without its adapters."""
    is_repeatable = sampling.temperature == 0 or sampling.seed is not None
    request: dict[str, Any] = {
        "prompt": list(ids),
        "stream": True,
        # A chunk after each part of a long prompt, at which the work can be cancelled.
        "return_progress": True,
        "max_tokens": min(sampling.max_tokens, num_ctx - len(ids)),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": guidance.min_p,  # llama.cpp's default is 0.05
        "repeat_penalty": sampling.repeat_penalty,
        "repeat_last_n": 64,  # tokens that the penalty looks back: llama.cpp's default, fixed here
        "presence_penalty": guidance.presence_penalty,
        "frequency_penalty": guidance.frequency_penalty,
        "stop": list(sampling.stop),
        # A prompt that is partly in the cache is summed in another order, which can flip a close choice, so an answer
        # that must be repeatable starts from an empty cache. Price: the whole prompt is read again.
        "cache_prompt": not is_repeatable,
    }
    optional = {"seed": sampling.seed, "grammar": guidance.grammar}
    request |= {name: value for name, value in optional.items() if value is not None}
    if guidance.json_schema is not None:
        request["json_schema"] = json.loads(guidance.json_schema)
    if guidance.num_top_logprobs is not None:
        # With 0 llama.cpp returns no log-probabilities at all; the chosen token's comes with the top ones.
        request["logprobs"] = max(1, guidance.num_top_logprobs)
    return request


def read_piece(chunk: dict[str, Any]) -> Piece:
    """The piece in a chunk of a stream; an InputError or a RunError where llama.cpp reports one."""
    check_answer(chunk)
    choice = chunk["choices"][0]
    listed = (choice.get("logprobs") or {}).get("content", ())
    # The token that ends an answer has no bytes and is not part of it.
    likelihoods = tuple(_likelihood(one) for one in listed if one["bytes"])
    if not choice["finish_reason"]:
        return Piece(choice["text"], likelihoods=likelihoods)
    usage = Usage(chunk["usage"]["prompt_tokens"], chunk["usage"]["completion_tokens"])
    return Piece(choice["text"], "length" if choice["finish_reason"] == "length" else "stop", usage, likelihoods)


def check_answer(answer: dict[str, Any]) -> None:
    """Raise the error that an answer of llama.cpp reports, if it does."""
    error = answer.get("error")
    if error is None:
        return
    message = f"llama.cpp rejected the request: {error.get('message', error)}"
    if error.get("code") == 400:
        raise InputError(message, fix="change the field that it names")
    raise RunError(message)


def _likelihood(listed: dict[str, Any]) -> Likelihood:
    top = tuple(_likelihood(one) for one in listed.get("top_logprobs", ()))
    return Likelihood(listed["token"], bytes(listed["bytes"]), listed["logprob"], top)
