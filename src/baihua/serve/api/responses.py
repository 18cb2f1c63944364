"""Responses in the form of OpenAI's API."""

import base64
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from baihua.chat.types import FinishReason, Likelihood, Usage

Kind = Literal["chat", "completion"]
PREFIXES = {"chat": "chatcmpl-", "completion": "cmpl-"}


@dataclass(frozen=True, slots=True)
class ResponseBuilder:
    """Builds the JSON of one answer, whole or in chunks."""

    kind: Kind
    model: str
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def role_chunk(self) -> dict[str, Any]:
        """The first chunk of a chat stream, which names the role."""
        delta = {"role": "assistant", "content": ""}
        return self._body({"index": 0, "delta": delta, "finish_reason": None}, is_chunk=True)

    def chunk(self, text: str, finish_reason: FinishReason | None, likelihoods: Sequence[Likelihood]) -> dict[str, Any]:
        """A chunk of a stream."""
        added = {"text": text} if self.kind == "completion" else {"delta": {"content": text} if text else {}}
        logprobs = {"logprobs": self._logprobs(likelihoods)} if likelihoods else {}
        return self._body({"index": 0, **added, **logprobs, "finish_reason": finish_reason}, is_chunk=True)

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """The last chunk of a stream whose client asked for usage."""
        return self._body(is_chunk=True) | {"usage": usage_json(usage)}

    def whole(
        self, text: str, finish_reason: FinishReason, usage: Usage, likelihoods: Sequence[Likelihood]
    ) -> dict[str, Any]:
        """A complete answer."""
        message = {"message": {"role": "assistant", "content": text, "refusal": None}}
        content = {"text": text} if self.kind == "completion" else message
        logprobs = self._logprobs(likelihoods) if likelihoods else None
        choice = {"index": 0, **content, "logprobs": logprobs, "finish_reason": finish_reason}
        return self._body(choice, is_chunk=False) | {"usage": usage_json(usage)}

    def _body(self, *choices: dict[str, Any], is_chunk: bool) -> dict[str, Any]:
        kind = "text_completion"
        if self.kind == "chat":
            kind = "chat.completion.chunk" if is_chunk else "chat.completion"
        return {
            "id": PREFIXES[self.kind] + self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": list(choices),
        }

    def _logprobs(self, likelihoods: Sequence[Likelihood]) -> dict[str, Any]:
        if self.kind == "chat":
            tokens = [_token(one) | {"top_logprobs": [_token(top) for top in one.top]} for one in likelihoods]
            return {"content": tokens, "refusal": None}
        return {
            "tokens": [one.token for one in likelihoods],
            "token_logprobs": [one.log_prob for one in likelihoods],
            "top_logprobs": [{top.token: top.log_prob for top in one.top} for one in likelihoods],
        }


def usage_json(usage: Usage) -> dict[str, int]:
    """Usage under OpenAI's names."""
    return {
        "prompt_tokens": usage.num_prompt_tokens,
        "completion_tokens": usage.num_answer_tokens,
        "total_tokens": usage.num_prompt_tokens + usage.num_answer_tokens,
    }


def embeddings_json(model: str, vectors: Sequence[np.ndarray], *, num_tokens: int, is_base64: bool) -> dict[str, Any]:
    """The response to a request for embeddings; base64 encodes little-endian float32."""
    data = [
        {"object": "embedding", "index": i, "embedding": _base64(vector_d) if is_base64 else vector_d.tolist()}
        for i, vector_d in enumerate(vectors)
    ]
    usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _base64(vector_d: np.ndarray) -> str:
    return base64.b64encode(vector_d.astype("<f4").tobytes()).decode("ascii")


def _token(one: Likelihood) -> dict[str, Any]:
    return {"token": one.token, "logprob": one.log_prob, "bytes": list(one.token_bytes)}
