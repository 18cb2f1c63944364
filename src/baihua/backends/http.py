"""Any server that speaks OpenAI's chat protocol: a cloud model, vLLM, llama.cpp's server, another Baihua."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from baihua.chat.types import FinishReason, Message, Piece, Sampling, Usage
from baihua.core.errors import BaihuaError, InputError, RunError, TooLongError
from baihua.core.log import logger

if TYPE_CHECKING:
    from openai import OpenAI, Stream
    from openai.types.chat import ChatCompletionChunk


class HttpChat:
    """A ChatModel behind an address."""

    def __init__(self, client: "OpenAI", *, model: str, url: str) -> None:
        self.name = model
        self._client = client
        self._url = url
        self._knows_extras = True

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Piece]:
        """Yield the answer as the server sends it; usage is missing where the server does not tell it."""
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
        yield Piece("", self._checked(finish_reason, num_chars), usage)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _request(self, messages: Sequence[Message], sampling: Sampling) -> "Stream[ChatCompletionChunk]":
        import openai

        # OpenAI's own protocol has neither field; local servers do, and answer differently without them.
        extras = {"top_k": sampling.top_k, "repeat_penalty": sampling.repeat_penalty}
        if self._knows_extras:
            try:
                return self._create(messages, sampling, extras)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not any(name in error.message for name in extras):
                    raise
                self._knows_extras = False
                logger.info("%s knows neither top_k nor repeat_penalty; asking without them", self._url)
        return self._create(messages, sampling, {})

    def _create(
        self, messages: Sequence[Message], sampling: Sampling, extras: dict[str, Any]
    ) -> "Stream[ChatCompletionChunk]":
        import openai

        turns: list[Any] = [{"role": message.role, "content": message.text} for message in messages]
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

    def _checked(self, reason: str | None, num_chars: int) -> FinishReason:
        if reason == "stop" or reason == "length":
            return reason
        found = f"with {reason!r}" if reason else "without saying why"
        raise RunError(
            f"the answer ended {found} after {num_chars:,} characters",
            where=f"{self._url}, model {self.name!r}",
            fix="ask again; if it happens every time, look at the server's log",
        )


def open_chat(url: str, *, model: str | None = None, api_key: str | None = None) -> HttpChat:
    """Connect to a server; without a model's name, take the first one that it lists."""
    base_url = _base_url(url)
    client = make_client(base_url, api_key)
    return HttpChat(client, model=model or _first_model(client, base_url), url=base_url)


def make_client(base_url: str, api_key: str | None) -> "OpenAI":
    """OpenAI's client as we use it: nothing from the environment, and no request is sent twice."""
    import openai

    # The library looks for what is None in the environment, which only core.env may read. It must not
    # retry either: a paid call that is sent twice has to be counted twice by whoever pays.
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
        raise InputError("this is not the address of a server", where=url, fix="write it like http://127.0.0.1:8080")
    return url.rstrip("/") + ("/v1" if parts.path in ("", "/") else "")


def _first_model(client: "OpenAI", url: str) -> str:
    with explained(url):
        # The raw text, because the library fails oddly on a web page that is no model server.
        listed = json.loads(client.models.with_raw_response.list().text)
    models = listed.get("data") if isinstance(listed, dict) else None
    if not models:
        raise InputError("the server lists no model", where=f"{url}/models", fix="name one, or load one there")
    return models[0]["id"]


@contextmanager
def explained(url: str, *, model: str = "") -> Iterator[None]:
    """Errors of the library become ours."""
    import openai

    where = f"{url}, model {model!r}" if model else url
    try:
        yield
    except openai.APIStatusError as error:
        raise _status_error(error.status_code, error.message, where=where) from error
    except openai.APITimeoutError as error:
        raise RunError("the server took too long to answer", where=where, fix="see whether it is busy") from error
    except openai.APIConnectionError as error:
        cause = error.__cause__ or error
        raise RunError(
            f"no connection, or it broke: {cause}",
            where=where,
            fix="see whether the server runs and listens at this address",
        ) from error
    except (openai.APIError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(
            f"the server sent something else than an answer: {error}",
            where=where,
            fix="see whether this address speaks OpenAI's protocol; most end in /v1",
        ) from error


def _status_error(status: int, message: str, *, where: str) -> BaihuaError:
    if status in (401, 403):
        return InputError(f"the server refuses the key ({message})", where=where, fix="give the right API key")
    if status == 404:
        return InputError(
            f"the server knows no such path or model ({message})",
            where=where,
            fix="check the address (most end in /v1) and the model's name",
        )
    if status in (400, 413) and "context" in message.lower():
        return TooLongError(f"the conversation is too long for the model ({message})", where=where, fix="shorten it")
    if status == 429:
        return RunError(f"the server asks to slow down ({message})", where=where, fix="wait, or ask less at a time")
    return RunError(f"the server answered with status {status} ({message})", where=where, fix="look at its log")
