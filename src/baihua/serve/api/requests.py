"""Requests of OpenAI's API, as far as we answer them; anything else in them is refused by name.

A field that changes nothing here is accepted where OpenAI's own clients send it: `user`, `metadata`, `store`,
`service_tier`, `safety_identifier` and `prompt_cache_key` are about OpenAI's own accounts and storage.
"""

import json
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from baihua.chat.types import Guidance, Message, Role, Sampling

# llama.cpp keeps a seed in 32 bits, all of them set mean a random one.
NUM_SEEDS = 2**32 - 1


def _printable(text: str) -> str:
    """llama.cpp writes a grammar that it cannot read to the server's terminal as it is."""
    if any(unicodedata.category(char) == "Cc" and char not in "\t\n\r" for char in text):
        raise ValueError("a control character; write it as \\x and two digits")
    return text


Stop = Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=16)]


class Base(BaseModel):
    """Strict, and nothing that it does not know."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TextPart(Base):
    """A part of a message; only text."""

    type: Literal["text"]
    text: str


class ChatMessage(Base):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    """`developer` is OpenAI's newer name of `system`."""
    content: str | Annotated[list[TextPart], Field(min_length=1)]
    name: str | None = None
    """Accepted, not shown to the model."""

    def as_message(self) -> Message:
        """The turn as the product has it."""
        text = self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)
        role: Role = "system" if self.role == "developer" else self.role
        return Message(role, text)


class JsonSchema(Base):
    """A named schema that the answer follows."""

    name: str = ""
    description: str | None = None
    strict: bool | None = None
    """Accepted: the answer always follows the schema."""
    schema_: dict[str, Any] = Field(alias="schema")


class ResponseFormat(Base):
    """Free text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def as_schema(self) -> str | None:
        """The schema as JSON, where there is one."""
        if self.type == "json_object":
            return '{"type": "object"}'
        return json.dumps(self.json_schema.schema_) if self.json_schema and self.type == "json_schema" else None


class StreamOptions(Base):
    """What a stream tells beside the text."""

    include_usage: bool = False
    include_obfuscation: bool = False
    """Accepted, not done."""


class Generation(Base):
    """What chat and completions have in common."""

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Annotated[str, Field(min_length=1, max_length=256)] | Stop | None = None
    grammar: Annotated[str, Field(min_length=1, max_length=65_536), AfterValidator(_printable)] | None = None
    """llama.cpp's GBNF, or llguidance's Lark after a line `%llguidance {}`."""
    response_format: ResponseFormat | None = None
    n: Literal[1] | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    def sampling(self, *, room: int) -> Sampling:
        """How to choose tokens; `room` is the length of an answer whose length nobody limits."""
        plain = Sampling()
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Sampling(
            max_tokens=min(self.length or room, room),
            temperature=_or(self.temperature, plain.temperature),
            top_p=_or(self.top_p, plain.top_p),
            top_k=_or(self.top_k, plain.top_k),
            repeat_penalty=_or(self.repeat_penalty, plain.repeat_penalty),
            stop=stop,
            seed=None if self.seed is None else self.seed % NUM_SEEDS,
        )

    def guidance(self, adapter: str | None) -> Guidance:
        """What else the engine is asked."""
        return Guidance(
            grammar=self.grammar,
            json_schema=self.response_format.as_schema() if self.response_format else None,
            num_top_logprobs=self.num_top_logprobs,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            min_p=self.min_p or 0.0,
            adapter=adapter,
        )

    @property
    def length(self) -> int | None:
        """Most tokens of the answer, as asked."""
        return self.max_tokens

    @property
    def num_top_logprobs(self) -> int | None:
        """How many likely tokens to tell beside each one; None for no numbers at all."""
        return None


class ChatRequest(Generation):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @property
    def length(self) -> int | None:
        """The newer name goes first."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def num_top_logprobs(self) -> int | None:
        """None where `logprobs` is not asked for."""
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionRequest(Generation):
    """POST /v1/completions: plain text or token ids, continued."""

    prompt: str | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None

    @property
    def num_top_logprobs(self) -> int | None:
        """As the older API counts them."""
        return self.logprobs


class EmbeddingRequest(Base):
    """POST /v1/embeddings."""

    model: str
    input: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=256)]
        | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
        | Annotated[
            list[Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]], Field(min_length=1, max_length=256)
        ]
    )
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None

    def texts(self) -> list[str | list[int]]:
        """The inputs, one by one: texts or their token ids."""
        if isinstance(self.input, str):
            return [self.input]
        ids = [one for one in self.input if isinstance(one, int)]
        return [ids] if ids else [one for one in self.input if not isinstance(one, int)]


def _or(value: float | None, otherwise: float) -> Any:
    return otherwise if value is None else value
