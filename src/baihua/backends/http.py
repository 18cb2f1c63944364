"""Chat with an OpenAI-compatible server: a cloud model, vLLM, llama.cpp's server, another Baihua."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import openai
from openai.types.chat import ChatCompletionChunk

from baihua.chat.types import Message, Piece, Sampling, Usage
from baihua.core.errors import BaihuaError, InputError, RunError, TooLongError
from baihua.core.log import logger

WRONG_KEY = (InputError, "the server rejected the API key", "give a valid key")
CHECK_ADDRESS = "check the address (most end in /v1) and the name"
STATUS_ERRORS: dict[int, tuple[type[BaihuaError], str, str]] = {
    401: WRONG_KEY,
    403: WRONG_KEY,
    404: (InputError, "the server does not know this path or model", CHECK_ADDRESS),
    429: (RunError, "the server's rate limit was reached", "wait, or send less"),
}


class HttpChat:
    """A ChatModel at an address."""

    def __init__(self, client: openai.OpenAI, *, model: str, url: str) -> None:
        self.name = model
        self._client = client
        self._url = url
        self._knows_extras = True

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Piece]:
        """Yield the answer as the server sends it; usage is missing where the server does not report it."""
        finish_reason, usage, num_chars = None, None, 0
        with explained(self._url, model=self.name), self._request(messages, sampling) as chunks:
            for chunk in chunks:
                if chunk.usage:
                    usage = Usage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
                if not chunk.choices:
                    continue
                finish_reason = chunk.choices[0].finish_reason or finish_reason
                if text := chunk.choices[0].delta.content:
                    num_chars += len(text)
                    yield Piece(text)
        if finish_reason not in ("stop", "length"):
            found = f"after {num_chars:,} characters with finish reason {finish_reason!r}, expected stop or length"
            fix = "try again; if it happens every time, see the server's log"
            raise RunError(f"the answer ended {found}", where=f"{self._url}, model {self.name!r}", fix=fix)
        yield Piece("", finish_reason, usage)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _request(self, messages: Sequence[Message], sampling: Sampling) -> openai.Stream[ChatCompletionChunk]:
        turns: list[Any] = [{"role": message.role, "content": message.text} for message in messages]

        def create(extras: dict[str, float]) -> openai.Stream[ChatCompletionChunk]:
            return self._client.chat.completions.create(
                model=self.name,
                messages=turns,
                stream=True,
                stream_options={"include_usage": True},
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                stop=list(sampling.stop) or openai.omit,
                seed=openai.omit if sampling.seed is None else sampling.seed,
                extra_body=extras,
            )

        # OpenAI's own protocol has neither field; local servers do, and answer differently without them.
        extras = {"top_k": sampling.top_k, "repeat_penalty": sampling.repeat_penalty}
        if self._knows_extras:
            try:
                return create(extras)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not any(name in error.message for name in extras):
                    raise
                self._knows_extras = False
                logger.info("%s supports neither top_k nor repeat_penalty; requests go without them", self._url)
        return create({})


def open_chat(url: str, *, model: str | None = None, api_key: str | None = None) -> HttpChat:
    """Connect to a server; without a model's name, take the first one that it lists."""
    base_url = _base_url(url)
    client = make_client(base_url, api_key)
    return HttpChat(client, model=model or _first_model(client, base_url), url=base_url)


def make_client(base_url: str, api_key: str | None) -> openai.OpenAI:
    """OpenAI's client without settings from the environment and without retries."""
    # The library reads settings that are None from the environment, which only core.env may do. It must not retry
    # either: a paid call that is sent twice costs twice, and the caller could not count it.
    return openai.OpenAI(
        base_url=base_url,
        api_key=api_key or "none",
        admin_api_key="",
        max_retries=0,
        default_headers={"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()},  # pyright: ignore
    )


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError("invalid server address", where=url, fix="write it like http://127.0.0.1:8080")
    return url.rstrip("/") + ("/v1" if parts.path in ("", "/") else "")


def _first_model(client: openai.OpenAI, url: str) -> str:
    with explained(url):
        # The raw text, because the library's own error about a web page is unreadable.
        listed = json.loads(client.models.with_raw_response.list().text)
    models = listed.get("data") if isinstance(listed, dict) else None
    if not models:
        raise InputError("the server lists no model", where=f"{url}/models", fix="name one, or load one there")
    return models[0]["id"]


@contextmanager
def explained(url: str, *, model: str = "") -> Iterator[None]:
    """Turn the library's errors into ours."""
    try:
        yield
    except (openai.APIError, json.JSONDecodeError, UnicodeDecodeError) as error:
        kind, what, fix = _explain(error)
        raise kind(what, where=f"{url}, model {model!r}" if model else url, fix=fix) from error


def _explain(error: Exception) -> tuple[type[BaihuaError], str, str]:
    if isinstance(error, openai.APIStatusError):
        others = (RunError, f"the server answered with status {error.status_code}", "see its log")
        kind, what, fix = STATUS_ERRORS.get(error.status_code, others)
        if error.status_code in (400, 413) and "context" in error.message.lower():
            kind, what, fix = TooLongError, "the conversation is too long for the model", "shorten it"
        return kind, f"{what} ({error.message})", fix
    if isinstance(error, openai.APITimeoutError):
        return RunError, "the server took too long to answer", "check whether it is busy"
    if isinstance(error, openai.APIConnectionError):
        what = f"the connection failed or was lost: {error.__cause__ or error}"
        return RunError, what, "check that the server is running and listens at this address"
    fix = "check that the address is that of an OpenAI-compatible API; most end in /v1"
    return RunError, f"the response is not a chat completion: {error}", fix
