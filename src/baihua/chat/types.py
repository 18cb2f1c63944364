"""Conversations, sampling, streamed answers, and the protocols of chat models, scorers and tokenizers.

T tokens, V vocabulary.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation; `input` is the material an instruction applies to (Alpaca's second field)."""

    role: Role
    content: str
    input: str | None = None

    @property
    def text(self) -> str:
        """Content and input joined by one newline, for templates and servers without a slot for the input."""
        return f"{self.content}\n{self.input}" if self.input else self.content


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a rendered conversation; only the template's own text may be a control token, never a message's."""

    text: str
    is_trained: bool = False
    is_control: bool = False


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids, and for each whether it is trained; both of length T."""

    ids: list[int]
    is_trained: list[bool]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample an answer; `temperature` 0 is greedy. A `stop` string ends the answer and is not part of it."""

    max_tokens: int = 512
    temperature: float = 0.7
    top_p: float = 0.9
    top_k: int = 40
    # No repeat penalty: where characters are spelled in bytes, every normal sentence repeats tokens.
    repeat_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a prompt and of its answer."""

    num_prompt_tokens: int
    num_answer_tokens: int


@dataclass(frozen=True, slots=True)
class Guidance:
    """Constraints beyond Sampling that only some engines support; each engine rejects those that it does not."""

    grammar: str | None = None
    """A grammar for the answer: llama.cpp's GBNF, or llguidance's Lark after a line `%llguidance {}`."""
    json_schema: str | None = None
    """A JSON schema for the answer, as JSON."""
    num_top_logprobs: int | None = None
    """Return each token's log-probability and this many top alternatives.

    Where a character is several tokens, llama.cpp returns only that of the last one.
    """
    presence_penalty: float = 0.0
    """As in OpenAI's API, over the answer; llama.cpp counts the last 64 tokens, the prompt's included."""
    frequency_penalty: float = 0.0
    min_p: float = 0.0
    """Exclude tokens less likely than this share of the likeliest one."""
    adapter: str | None = None
    """The name of an adapter that the engine has loaded; None for the base model."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """A token with its natural-log probability, and the likeliest alternatives to it."""

    token: str
    token_bytes: bytes
    log_prob: float
    top: tuple["Likelihood", ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a streamed answer in whole characters; the last one has finish reason and usage."""

    text: str
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    likelihoods: tuple[Likelihood, ...] = ()


class ChatModel(Protocol):
    """Anything that answers a conversation; thread-safe."""

    name: str

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Piece]:
        """Yield the answer piece by piece; closing the iterator cancels the work."""
        ...

    def close(self) -> None:
        """Release the model's resources."""
        ...


@runtime_checkable
class LocalChat(ChatModel, Protocol):
    """A ChatModel whose prompt can be shown and counted."""

    num_ctx: int
    """Context size: the most tokens of a prompt and its answer together."""

    def prompt(self, messages: Sequence[Message]) -> list[Span]:
        """The rendered conversation, up to where the answer begins."""
        ...

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Number of tokens in that prompt."""
        ...


class Scorer(Protocol):
    """Anything that gives the log-probabilities of a text."""

    def log_probs(self, ids: Sequence[int]) -> np.ndarray:
        """Natural-log probabilities_TV, float32: row t is the distribution of the token after ids[: t + 1]."""
        ...


class TextTokenizer(Protocol):
    """A tokenizer for rendering: it never reads a control token from plain text; those are looked up by name."""

    @property
    def controls(self) -> Mapping[str, int]:
        """Every control token and its id."""
        ...

    @property
    def bos_id(self) -> int | None:
        """The token that must begin every text, if this model has one."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; the name of a control token in it is encoded as ordinary characters."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes a token stands for, none for a control token; a character may span several tokens."""
        ...
