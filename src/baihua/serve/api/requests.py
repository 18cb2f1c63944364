"""Request bodies of OpenAI's API, as far as it is supported here; any other field is refused by name.

Some fields have no effect here but are accepted, because OpenAI's clients send them: `user`, `metadata`, `store`,
`service_tier`, `safety_identifier` and `prompt_cache_key` concern accounts and storage at OpenAI.
"""

import json
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from baihua.chat.types import Guidance, Message, Role, Sampling
from baihua.serve.web.request_body import RequestModel

# llama.cpp stores a seed in 32 bits; all bits set means a random seed.
NUM_SEEDS = 2**32 - 1


def _printable(text: str) -> str:
    """Refuse control characters: llama.cpp prints grammars that it cannot parse to the server's terminal, unescaped."""
    if any(unicodedata.category(char) == "Cc" and char not in "\t\n\r" for char in text):
        raise ValueError("contains a control character; write it as \\x and two hexadecimal digits")
    return text


StopString = Annotated[str, Field(min_length=1, max_length=256)]
TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
NumTokens = Annotated[int, Field(ge=1, le=2**31 - 1)]
NumInputs = Field(min_length=1, max_length=256)
NumTopLogprobs = Annotated[int, Field(ge=0, le=20)]


class TextPart(RequestModel):
    """A text part of a message; other kinds of parts are not supported."""

    type: Literal["text"]
    text: str


class ChatMessage(RequestModel):
    """One message."""

    role: Literal["system", "developer", "user", "assistant"]
    """`developer` is OpenAI's newer name for `system`."""
    content: str | Annotated[list[TextPart], Field(min_length=1)]
    name: str | None = None
    """Accepted, but not shown to the model."""

    def as_message(self) -> Message:
        """The message as our renderer takes it; text parts are joined by newlines."""
        text = self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)
        role: Role = "system" if self.role == "developer" else self.role
        return Message(role, text)


class JsonSchema(RequestModel):
    """A named schema for the answer."""

    name: str = ""
    description: str | None = None
    strict: bool | None = None
    """Accepted; the answer always follows the schema."""
    schema_: dict[str, Any] = Field(alias="schema")


class ResponseFormat(RequestModel):
    """Free text, any JSON object, or JSON that follows a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def as_schema(self) -> str | None:
        """The schema as JSON, if the answer must follow one."""
        if self.type == "json_object":
            return '{"type": "object"}'
        return json.dumps(self.json_schema.schema_) if self.json_schema and self.type == "json_schema" else None


class StreamOptions(RequestModel):
    """What a stream contains besides the text."""

    include_usage: bool = False
    include_obfuscation: bool = False
    """Accepted, but has no effect."""


class GenerationRequest(RequestModel):
    """The fields that chat and text completions share."""

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
    max_tokens: NumTokens | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=16)] | None = None
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
        """How to choose tokens; the answer has at most `room` tokens."""
        given = self.model_dump(include={"temperature", "top_p", "top_k", "repeat_penalty"}, exclude_none=True)
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        seed = None if self.seed is None else self.seed % NUM_SEEDS
        return Sampling(max_tokens=min(self.length or room, room), stop=stop, seed=seed, **given)

    def guidance(self, adapter: str | None) -> Guidance:
        """The other constraints on the answer."""
        names = {"grammar", "presence_penalty", "frequency_penalty", "min_p"}
        given = self.model_dump(include=names, exclude_none=True)
        schema = self.response_format.as_schema() if self.response_format else None
        return Guidance(json_schema=schema, num_top_logprobs=self.num_top_logprobs, adapter=adapter, **given)

    @property
    def length(self) -> int | None:
        """Most tokens of the answer, if limited."""
        return self.max_tokens

    @property
    def num_top_logprobs(self) -> int | None:
        """Alternatives per token to return with log-probabilities; None for no log-probabilities."""
        return None


class ChatRequest(GenerationRequest):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: NumTokens | None = None
    logprobs: bool | None = None
    top_logprobs: NumTopLogprobs | None = None

    @property
    def length(self) -> int | None:
        """`max_completion_tokens`, OpenAI's newer name, takes precedence."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def num_top_logprobs(self) -> int | None:
        """`top_logprobs` has no effect without `logprobs`."""
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionRequest(GenerationRequest):
    """POST /v1/completions: continue a text or token ids."""

    prompt: str | TokenIds
    logprobs: NumTopLogprobs | None = None
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None

    @property
    def num_top_logprobs(self) -> int | None:
        """In the older API `logprobs` is that number."""
        return self.logprobs


class EmbeddingRequest(RequestModel):
    """POST /v1/embeddings."""

    model: str
    input: str | Annotated[list[str], NumInputs] | TokenIds | Annotated[list[TokenIds], NumInputs]
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None

    def texts(self) -> list[str | list[int]]:
        """The inputs one by one, each a text or its token ids."""
        if isinstance(self.input, str):
            return [self.input]
        ids = [one for one in self.input if isinstance(one, int)]
        return [ids] if ids else [one for one in self.input if not isinstance(one, int)]
