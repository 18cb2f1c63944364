"""Responses in the form of OpenAI's API."""

import base64
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from baihua.chat.types import FinishReason, Likelihood, Piece, Usage
from baihua.serve.web.streaming import as_event

Kind = Literal["chat", "completion"]
# A comment in the event stream, sent while a long prompt is being processed.
KEEP_ALIVE = b": reading\n\n"
PREFIXES = {"chat": "chatcmpl-", "completion": "cmpl-"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseBuilder:
    """Builds the JSON of one answer, whole or as events."""

    kind: Kind
    model: str
    num_top: int | None
    """Alternatives per token; None for no log-probabilities. Engines may return more than that."""
    has_usage: bool
    """Whether a stream ends with the usage."""
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def role_event(self) -> bytes:
        """The first event of a chat stream, which names the role."""
        delta = {"role": "assistant", "content": ""}
        return as_event(self._body({"index": 0, "delta": delta, "finish_reason": None}, is_chunk=True))

    def event(self, piece: Piece) -> bytes:
        """The event of a piece; the last one is followed by the event of the usage, if that is included."""
        logprobs = self._logprobs(piece.likelihoods)
        if not piece.text and not piece.finish_reason and logprobs is None:
            return KEEP_ALIVE
        text = piece.text
        added = {"text": text} if self.kind == "completion" else {"delta": {"content": text} if text else {}}
        choice = {"index": 0, **added, **({"logprobs": logprobs} if logprobs else {})}
        event = as_event(self._body(choice | {"finish_reason": piece.finish_reason}, is_chunk=True))
        if piece.usage and self.has_usage:
            event += as_event(self._body(is_chunk=True) | {"usage": usage_json(piece.usage)})
        return event

    def whole(
        self, text: str, finish_reason: FinishReason, usage: Usage, likelihoods: Sequence[Likelihood]
    ) -> dict[str, Any]:
        """A complete answer."""
        message = {"message": {"role": "assistant", "content": text, "refusal": None}}
        content = {"text": text} if self.kind == "completion" else message
        choice = {"index": 0, **content, "logprobs": self._logprobs(likelihoods), "finish_reason": finish_reason}
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

    def _logprobs(self, likelihoods: Sequence[Likelihood]) -> dict[str, Any] | None:
        if self.num_top is None or not likelihoods:
            return None
        tops = [one.top[: self.num_top] for one in likelihoods]
        if self.kind == "chat":
            pairs = zip(likelihoods, tops, strict=True)
            tokens = [_token(one) | {"top_logprobs": [_token(other) for other in top]} for one, top in pairs]
            return {"content": tokens, "refusal": None}
        return {
            "tokens": [one.token for one in likelihoods],
            "token_logprobs": [one.log_prob for one in likelihoods],
            "top_logprobs": [{other.token: other.log_prob for other in top} for top in tops],
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
    encoded = [base64.b64encode(v.astype("<f4").tobytes()).decode() if is_base64 else v.tolist() for v in vectors]
    data = [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(encoded)]
    usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _token(one: Likelihood) -> dict[str, Any]:
    return {"token": one.token, "logprob": one.log_prob, "bytes": list(one.token_bytes)}
