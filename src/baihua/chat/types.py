"""Conversations, and the protocols of whatever answers or scores them.

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
    """One turn. `input` is the material of an instruction (Alpaca's second field), where it has one."""

    role: Role
    content: str
    input: str | None = None

    @property
    def text(self) -> str:
        """Content and input joined by one newline, for whatever has no slot of its own for the input."""
        return f"{self.content}\n{self.input}" if self.input else self.content


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a rendered conversation.

    Only a span that the template owns may be a control token; text of users and data never is.
    """

    text: str
    is_trained: bool = False
    is_control: bool = False


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids and, for each, whether the model is trained to produce it; both of length T."""

    ids: list[int]
    is_trained: list[bool]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose the next token; `temperature` 0 is greedy. `stop` strings end the answer unseen."""

    max_tokens: int = 512
    temperature: float = 0.7
    top_p: float = 0.9
    top_k: int = 40
    # No repeat penalty: a vocabulary that spells characters in bytes repeats bytes in every honest sentence.
    repeat_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written for one answer."""

    num_prompt_tokens: int
    num_answer_tokens: int


@dataclass(frozen=True, slots=True)
class Guidance:
    """What else the next token may depend on, where an engine knows it; each engine refuses what it does not know."""

    grammar: str | None = None
    """A grammar that the answer follows: llama.cpp's GBNF, or llguidance's Lark after a line `%llguidance {}`."""
    json_schema: str | None = None
    """A JSON schema, as JSON, that the answer follows."""
    num_top_logprobs: int | None = None
    """Tells the log-probability of each token, and of so many likely ones beside it.

    Where a character is several tokens, llama.cpp tells that of the last one alone.
    """
    presence_penalty: float = 0.0
    """As OpenAI's, over the answer; llama.cpp counts the last 64 tokens, with those of the prompt."""
    frequency_penalty: float = 0.0
    min_p: float = 0.0
    """Leaves out tokens that are less likely than this share of the likeliest one."""
    adapter: str | None = None
    """One of the adapters that the engine holds; none without a name."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """A token and its natural-log probability, and those of the likeliest tokens at its place."""

    token: str
    token_bytes: bytes
    log_prob: float
    top: tuple["Likelihood", ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a streamed answer, always whole characters; the last one has finish reason and usage."""

    text: str
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    likelihoods: tuple[Likelihood, ...] = ()


class ChatModel(Protocol):
    """Anything that answers a conversation; safe to use from many threads."""

    name: str

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Piece]:
        """Yield the answer piece by piece; closing the iterator cancels the work."""
        ...

    def close(self) -> None:
        """Free what the model holds."""
        ...


@runtime_checkable
class LocalChat(ChatModel, Protocol):
    """A ChatModel whose prompt can be seen and counted beforehand."""

    num_ctx: int
    """Most tokens of a prompt and its answer together."""

    def prompt(self, messages: Sequence[Message]) -> list[Span]:
        """The conversation as the model reads it, up to where its answer begins."""
        ...

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """How many tokens that prompt has."""
        ...


class Scorer(Protocol):
    """Anything that gives numbers for a text."""

    def log_probs(self, ids: Sequence[int]) -> np.ndarray:
        """Natural-log probabilities_TV, float32: row t is the distribution of the token after ids[: t + 1]."""
        ...


class TextTokenizer(Protocol):
    """What rendering needs of a tokenizer: plain text stays plain, control tokens go by name."""

    @property
    def controls(self) -> Mapping[str, int]:
        """Every control token and its id."""
        ...

    @property
    def bos_id(self) -> int | None:
        """The token that this model wants before every text, where it wants one."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; a control token's name inside it is just letters."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for; a character may span several tokens. Controls give none."""
        ...
