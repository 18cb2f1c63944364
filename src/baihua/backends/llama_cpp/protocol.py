"""Requests to llama.cpp's server loop, and its answers."""

import json
from collections.abc import Sequence
from typing import Any

from baihua.chat.types import Guidance, Likelihood, Piece, Sampling, Usage
from baihua.core.errors import InputError, RunError


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
    if sampling.seed is not None:
        request["seed"] = sampling.seed
    if guidance.grammar is not None:
        request["grammar"] = guidance.grammar
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
