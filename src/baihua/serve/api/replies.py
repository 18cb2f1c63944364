"""Answers in the form of OpenAI's API."""

import base64
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from baihua.chat.types import FinishReason, Likelihood, Usage

Kind = Literal["chat", "completion"]
OBJECTS = {("chat", True): "chat.completion.chunk", ("chat", False): "chat.completion"}
PREFIXES = {"chat": "chatcmpl-", "completion": "cmpl-"}


@dataclass(frozen=True, slots=True)
class Reply:
    """Writes the parts of one answer."""

    kind: Kind
    model: str
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def first(self) -> dict[str, Any]:
        """The part that opens a stream of chat: who speaks."""
        return self._part({"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}, True)

    def part(
        self, text: str, finish_reason: FinishReason | None, likelihoods: Sequence[Likelihood] = ()
    ) -> dict[str, Any]:
        """A part of a stream."""
        said: dict[str, Any] = {"delta": {"content": text} if text else {}} if self.kind == "chat" else {"text": text}
        told = {"logprobs": self._told(likelihoods)} if likelihoods else {}
        return self._part({"index": 0} | said | told | {"finish_reason": finish_reason}, True)

    def usage(self, usage: Usage) -> dict[str, Any]:
        """The last part of a stream that tells usage."""
        return self._head(True) | {"choices": [], "usage": count(usage)}

    def whole(
        self, text: str, finish_reason: FinishReason, usage: Usage, likelihoods: Sequence[Likelihood]
    ) -> dict[str, Any]:
        """An answer in one piece."""
        message = {"message": {"role": "assistant", "content": text, "refusal": None}}
        said: dict[str, Any] = message if self.kind == "chat" else {"text": text}
        told = {"logprobs": self._told(likelihoods) if likelihoods else None}
        return self._part({"index": 0} | said | told | {"finish_reason": finish_reason}, False) | {
            "usage": count(usage)
        }

    def _part(self, choice: dict[str, Any], is_stream: bool) -> dict[str, Any]:
        return self._head(is_stream) | {"choices": [choice]}

    def _head(self, is_stream: bool) -> dict[str, Any]:
        kind = OBJECTS.get((self.kind, is_stream), "text_completion")
        return {"id": PREFIXES[self.kind] + self.id, "object": kind, "created": self.created, "model": self.model}

    def _told(self, likelihoods: Sequence[Likelihood]) -> dict[str, Any]:
        if self.kind == "chat":
            return {"content": [_chat_token(one) for one in likelihoods], "refusal": None}
        return {
            "tokens": [one.token for one in likelihoods],
            "token_logprobs": [one.log_prob for one in likelihoods],
            "top_logprobs": [{top.token: top.log_prob for top in one.top} for one in likelihoods],
        }


def event(data: dict[str, Any]) -> bytes:
    """One event of a stream."""
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def count(usage: Usage) -> dict[str, int]:
    """Usage as OpenAI names it."""
    total = usage.num_prompt_tokens + usage.num_answer_tokens
    return {
        "prompt_tokens": usage.num_prompt_tokens,
        "completion_tokens": usage.num_answer_tokens,
        "total_tokens": total,
    }


def vectors(model: str, found: Sequence[np.ndarray], *, num_tokens: int, is_base64: bool) -> dict[str, Any]:
    """The answer to a request for embeddings; base64 is of little-endian float32."""
    data = [
        {"object": "embedding", "index": i, "embedding": _packed(vector_d) if is_base64 else vector_d.tolist()}
        for i, vector_d in enumerate(found)
    ]
    usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _packed(vector_d: np.ndarray) -> str:
    return base64.b64encode(vector_d.astype("<f4").tobytes()).decode("ascii")


def _chat_token(one: Likelihood) -> dict[str, Any]:
    return _token(one) | {"top_logprobs": [_token(top) for top in one.top]}


def _token(one: Likelihood) -> dict[str, Any]:
    return {"token": one.token, "logprob": one.log_prob, "bytes": list(one.token_bytes)}
