"""OpenAI's own client against a real server."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import openai
import pytest
from live_server import served
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel
from scripted_engine import END, ScriptedEngine
from served_models import opened_file

from baihua.chat.types import Piece

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "你好"}]


@pytest.fixture(scope="module")
def url(tiny_gguf: Path) -> Iterator[str]:
    with (
        opened_file(tiny_gguf) as tiny,
        served({"tiny": tiny, "说": ScriptedEngine(Piece("好"), END)}) as address,
    ):
        yield f"{address}/v1"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="any", max_retries=0) as found:
        yield found


def test_two_models_one_address(client: openai.OpenAI) -> None:
    assert [one.id for one in client.models.list()] == ["tiny", "说"]
    assert client.models.retrieve("说").id == "说"
    found = client.chat.completions.create(model="说", messages=ASK)
    assert (found.choices[0].message.content, found.choices[0].finish_reason) == ("好", "stop")


def test_a_stream_with_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="tiny", messages=ASK, stream=True, max_tokens=7, temperature=0, stream_options={"include_usage": True}
        )
    )
    whole = client.chat.completions.create(model="tiny", messages=ASK, max_tokens=7, temperature=0)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert chunks[0].choices[0].delta.role == "assistant"


class Weather(BaseModel):
    """What the answer must be."""

    sky: Literal["晴", "雨"]
    degrees: Literal[7]


def test_an_answer_is_parsed_into_a_class(client: openai.OpenAI) -> None:
    found = client.chat.completions.parse(model="tiny", messages=ASK, response_format=Weather, max_tokens=120, seed=1)
    parsed = found.choices[0].message.parsed
    assert parsed is not None and parsed.degrees == 7


def test_log_probabilities_and_older_completions(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(
        model="tiny", messages=ASK, max_tokens=3, logprobs=True, top_logprobs=2, temperature=0
    )
    logprobs = found.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert all(len(one.top_logprobs) == 2 and one.logprob <= 0 for one in logprobs.content)
    older = client.completions.create(model="tiny", prompt="今天", max_tokens=3, logprobs=1, temperature=0)
    assert older.choices[0].logprobs is not None and older.usage is not None
    assert older.choices[0].logprobs.tokens is not None
    assert len(older.choices[0].logprobs.tokens) == older.usage.completion_tokens


def test_vectors_as_the_client_asks_for_them(client: openai.OpenAI) -> None:
    found = client.embeddings.create(model="tiny", input=["你好", "天气"])
    assert len(found.data) == 2
    assert abs(sum(number**2 for number in found.data[0].embedding) - 1) < 1e-4


def test_many_at_once_from_threads_and_from_a_loop(client: openai.OpenAI, url: str) -> None:
    def ask(number: int) -> str:
        grammar = f'root ::= "号{number}号"'
        found = client.chat.completions.create(model="tiny", messages=ASK, extra_body={"grammar": grammar})
        return found.choices[0].message.content or ""

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(16))) == [f"号{number}号" for number in range(16)]

    async def ask_all() -> list[str]:
        async with openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as other:
            asked = [
                other.chat.completions.create(
                    model="tiny", messages=ASK, extra_body={"grammar": f'root ::= "环{number}"'}
                )
                for number in range(8)
            ]
            return [one.choices[0].message.content or "" for one in await asyncio.gather(*asked)]

    assert asyncio.run(ask_all()) == [f"环{number}" for number in range(8)]


Ask = Callable[[openai.OpenAI], object]


@pytest.mark.parametrize(
    ("ask", "error", "code"),
    [
        (lambda c: c.chat.completions.create(model="none", messages=ASK), openai.NotFoundError, "model_not_found"),
        (lambda c: c.chat.completions.create(model="tiny", messages=[]), openai.BadRequestError, "invalid_value"),
        (lambda c: c.chat.completions.create(model="tiny", messages=ASK, n=3), openai.BadRequestError, "invalid_value"),
        (
            lambda c: c.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "长" * 2000}]),
            openai.BadRequestError,
            "context_length_exceeded",
        ),
        (lambda c: c.models.retrieve("none"), openai.NotFoundError, "model_not_found"),
        (lambda c: c.get("/none", cast_to=object), openai.NotFoundError, "not_found"),
    ],
)
def test_errors_become_the_clients_own(
    client: openai.OpenAI, ask: Ask, error: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(error) as caught:
        ask(client)
    assert caught.value.code == code


def test_keys_and_queues_become_the_clients_own_errors() -> None:
    stuck = ScriptedEngine(None, END)
    with (
        served({"m": stuck}, key="right", max_waiting=0, max_answer_seconds=0.5) as address,
        ThreadPoolExecutor(1) as pool,
    ):
        wrong = openai.OpenAI(base_url=f"{address}/v1", api_key="wrong", max_retries=0)
        with pytest.raises(openai.AuthenticationError):
            wrong.models.list()
        right = openai.OpenAI(base_url=f"{address}/v1", api_key="right", max_retries=0)
        first = pool.submit(right.chat.completions.create, model="m", messages=ASK)
        while not stuck.asked:
            pass
        with pytest.raises(openai.RateLimitError, match="the request queue is full"):
            right.chat.completions.create(model="m", messages=ASK)
        with pytest.raises(openai.InternalServerError, match="took longer"):
            first.result()
