"""What llama.cpp's server loop is sent, and what it sends back."""

import json
from collections.abc import Sequence
from typing import Any

from baihua.chat.types import Guidance, Likelihood, Piece, Sampling, Usage
from baihua.core.errors import InputError, RunError


def request_of(ids: Sequence[int], sampling: Sampling, guidance: Guidance, *, num_ctx: int) -> dict[str, Any]:
    """What llama.cpp is asked, all but its adapters."""
    is_repeatable = sampling.temperature == 0 or sampling.seed is not None
    request = {
        "prompt": list(ids),
        "stream": True,
        # A chunk after each part of a long prompt, at which the work can be cancelled.
        "return_progress": True,
        "max_tokens": min(sampling.max_tokens, num_ctx - len(ids)),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "repeat_penalty": sampling.repeat_penalty,
        "repeat_last_n": 64,  # how far back the penalty looks: llama.cpp's default, named so that it stays
        "stop": list(sampling.stop),
        # A prompt that is partly in the cache is summed up in another order, which can flip a close choice.
        # An answer that must repeat starts from nothing; the price is reading the whole prompt again.
        "cache_prompt": not is_repeatable,
    }
    seed = {} if sampling.seed is None else {"seed": sampling.seed}
    return request | seed | _guided(guidance)


def _guided(guidance: Guidance) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "min_p": guidance.min_p,  # always said: llama.cpp's own default is 0.05, ours none
        "presence_penalty": guidance.presence_penalty,
        "frequency_penalty": guidance.frequency_penalty,
    }
    if guidance.grammar is not None:
        fields["grammar"] = guidance.grammar
    if guidance.json_schema is not None:
        fields["json_schema"] = json.loads(guidance.json_schema)
    if guidance.num_top_logprobs is not None:
        # With 0 llama.cpp tells none at all; the one that is chosen is told with the likeliest.
        fields["logprobs"] = max(1, guidance.num_top_logprobs)
    return fields


def read_piece(chunk: dict[str, Any]) -> Piece:
    """A chunk of a stream; an InputError or a RunError where llama.cpp refuses."""
    check_answer(chunk)
    choice = chunk["choices"][0]
    told = (choice.get("logprobs") or {}).get("content", ())
    # The token that ends an answer is no part of it.
    likelihoods = tuple(_likelihood(one) for one in told if one["bytes"])
    if not choice["finish_reason"]:
        return Piece(choice["text"], likelihoods=likelihoods)
    usage = chunk["usage"]
    return Piece(
        choice["text"],
        finish_reason="length" if choice["finish_reason"] == "length" else "stop",
        usage=Usage(usage["prompt_tokens"], usage["completion_tokens"]),
        likelihoods=likelihoods,
    )


def check_answer(answer: dict[str, Any]) -> None:
    """Raise what llama.cpp says is wrong."""
    error = answer.get("error")
    if error is None:
        return
    message = error.get("message", str(error))
    if error.get("code") == 400:
        raise InputError(f"llama.cpp refused a request: {message}", fix="change what it names")
    raise RunError(f"llama.cpp refused a request: {message}")


def _likelihood(told: dict[str, Any]) -> Likelihood:
    top = tuple(_likelihood(one) for one in told.get("top_logprobs", ()))
    return Likelihood(told["token"], bytes(told["bytes"]), told["logprob"], top)
