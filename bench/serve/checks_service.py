"""Checks of how a server behaves: errors, options, queue, many at once, vectors, models. See conformance.py."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import openai
from checks_answers import Bench, UnmetError, body, check_chat, expect, text_of, turns

from baihua.modelfiles.gguf_header import read_model_header

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"n": 2}, "n"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}, "tools"),
    ({"logit_bias": {"5": 1}}, "logit_bias"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"extra_body": {"max_token": 5}}, "max_token"),
    ({"temperature": 3}, "temperature"),
    ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
    ({"stop": [""]}, "stop"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages"),
]
TEXTS = ["今天天气很好。", "The river flows to the sea.", "𠮷野家的牛肉饭", "2 + 2 = 4"]


def caught(kind: type[openai.APIStatusError], call: Callable[[], object]) -> openai.APIStatusError:
    """The error of a call, which must be of this class and say something."""
    try:
        call()
    except kind as error:
        expect(bool(error.body), f"no body in {error}")
        return error
    raise UnmetError(f"no {kind.__name__}")


def check_options(bench: Bench) -> str:
    """What is not offered is refused by its name."""
    for more, name in REFUSED:
        error = caught(openai.BadRequestError, lambda more=more: bench.ask(**more))
        expect(name in (error.param or "") or name in error.message, f"{name}: {error.param}, {error.message}")
    return f"{len(REFUSED)} of them"


def check_too_long(bench: Bench) -> str:
    """A prompt beyond the context has OpenAI's code for it."""
    error = caught(openai.BadRequestError, lambda: bench.ask("long " * 3000))
    expect(error.code == "context_length_exceeded", error.code)
    return str(error.code)


def check_grammar(bench: Bench) -> str:
    """A grammar that cannot be read is the client's mistake."""
    error = caught(openai.BadRequestError, lambda: bench.ask(extra_body={"grammar": "root ::= ((("}))
    return error.message[:50]


def check_too_large(bench: Bench) -> str:
    """More than 1 MiB is refused."""
    error = caught(openai.APIStatusError, lambda: bench.ask("x" * 2_000_000))
    expect(error.status_code == 413, error.status_code)
    return "413"


def check_key(bench: Bench) -> str:
    """Another key is an AuthenticationError, of every call."""
    with bench.client(api_key="wrong") as client:
        caught(openai.AuthenticationError, client.models.list)
        caught(openai.AuthenticationError, lambda: client.embeddings.create(model="second", input="a"))
        error = caught(openai.AuthenticationError, lambda: client.chat.completions.create(**body("a", {})))
    return str(error.code)


def check_unknown(bench: Bench) -> str:
    """An unknown model or path is a NotFoundError."""
    error = caught(openai.NotFoundError, lambda: bench.ask(model="secnd"))
    expect(error.code == "model_not_found" and "'second'" in error.message, error.message)
    with bench.client() as client:
        caught(openai.NotFoundError, lambda: client.models.retrieve("none"))
        caught(openai.NotFoundError, lambda: client.get("/nothing", cast_to=object))
    return str(error.code)


def check_models(bench: Bench) -> str:
    """The list, one of them, and both answer behind one port."""
    with bench.client() as client:
        names = [one.id for one in client.models.list()]
        expect(names == ["m", "second"] and client.models.retrieve("second").id == "second", names)
    grammar = {"grammar": 'root ::= "在"'}
    found = {name: bench.ask(model=name, extra_body=grammar) for name in names}
    expect([text_of(one) for one in found.values()] == ["在", "在"], found)
    expect([one.model for one in found.values()] == names, found)
    return ", ".join(names)


def check_timeout(bench: Bench) -> str:
    """A client that loses patience gets its APITimeoutError, and its place is free again."""
    started = time.monotonic()
    try:
        bench_call = body("long", {"max_tokens": 800, "extra_body": {"grammar": 'root ::= "啊"{800,}'}})
        with bench.client(timeout=0.5) as client:
            client.chat.completions.create(**bench_call)
    except openai.APITimeoutError:
        patience = time.monotonic() - started
        check_chat(bench)
        return f"after {patience:.1f} s"
    raise UnmetError("no APITimeoutError")


def check_threads(bench: Bench) -> str:
    """Eight at once from threads, each with its own answer."""
    with bench.client() as client, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: text_of(client.chat.completions.create(**marked(i))), range(8)))
    expect(found == [f"线{i}线" for i in range(8)], found)
    return " ".join(found)


def marked(number: int) -> dict[str, Any]:
    """A call whose answer can be one alone."""
    return body("?", {"extra_body": {"grammar": f'root ::= "线{number}线"'}})


def check_loop(bench: Bench) -> str:
    """Eight streams at once from an event loop."""

    async def ask(client: openai.AsyncOpenAI, number: int) -> str:
        stream = await client.chat.completions.create(**marked(number), stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def ask_all() -> list[str]:
        async with bench.async_client() as client:
            return list(await asyncio.gather(*[ask(client, number) for number in range(8)]))

    found = asyncio.run(ask_all())
    expect(found == [f"线{i}线" for i in range(8)], found)
    return " ".join(found)


def check_async(bench: Bench) -> str:
    """The asynchronous client gets the same answer as the other one."""

    async def ask() -> str:
        async with bench.async_client() as client:
            found = await client.chat.completions.create(**body("Say hello.", {"seed": 5, "temperature": 1.0}))
        return found.choices[0].message.content or ""

    one, other = asyncio.run(ask()), text_of(bench.ask("Say hello.", seed=5, temperature=1.0))
    expect(one == other, (one, other))
    return repr(one[:30])


async def crowd(bench: Bench, num_calls: int, *, max_retries: int) -> list[str]:
    """Many calls at once; for each its text, or the name of its error."""

    async def ask(client: openai.AsyncOpenAI, number: int) -> str:
        grammar = f'root ::= "{number}-"{{20,}}'
        asked = body("?", {"max_tokens": 40, "extra_body": {"grammar": grammar}})
        try:
            found = await client.chat.completions.create(**asked)
        except openai.RateLimitError as error:
            return f"RateLimitError {error.code} {error.response.headers.get('retry-after')}"
        return found.choices[0].message.content or ""

    async with bench.async_client(max_retries=max_retries) as client:
        return list(await asyncio.gather(*[ask(client, number) for number in range(num_calls)]))


def check_queue(bench: Bench) -> str:
    """A full queue is a RateLimitError with `Retry-After`, and nobody else's answer suffers."""
    found = asyncio.run(crowd(bench, 20, max_retries=0))
    refused = [one for one in found if one.startswith("RateLimitError")]
    expect(all(one.split()[1] == "queue_full" and int(one.split()[2]) > 0 for one in refused), refused)
    answered = [(i, one) for i, one in enumerate(found) if one not in refused]
    expect(all((f"{i}-" * 40).startswith(one) and one for i, one in answered), answered)
    expect(len(answered) >= 2 and bool(refused), f"{len(answered)} answers, {len(refused)} refused")
    return f"{len(answered)} answers, {len(refused)} refused"


def check_retries(bench: Bench) -> str:
    """The client's own retries, which follow `Retry-After`, get everybody an answer in the end."""
    found = asyncio.run(crowd(bench, 12, max_retries=20))
    refused = [one for one in found if one.startswith("RateLimitError")]
    expect(not refused, refused)
    return f"{len(found)} answers"


def check_vectors(bench: Bench) -> str:
    """As many numbers as the model is wide, of length 1; a batch in its order; floats as base64, and the usage."""
    width = read_model_header(bench.second.file).size("embedding_length")
    with bench.client() as client:
        batch = client.embeddings.create(model="second", input=TEXTS)
        single = [client.embeddings.create(model="second", input=text).data[0].embedding for text in reversed(TEXTS)]
        floats = client.embeddings.create(model="second", input=TEXTS, encoding_format="float")
    vectors_BD = np.array([one.embedding for one in batch.data])  # noqa: N806  (B texts, D width)
    expect(vectors_BD.shape == (len(TEXTS), width), vectors_BD.shape)
    expect([one.index for one in batch.data] == list(range(len(TEXTS))), "other order")
    expect(np.allclose(np.linalg.norm(vectors_BD, axis=1), 1, atol=1e-4), np.linalg.norm(vectors_BD, axis=1))
    likeness_BB = vectors_BD @ np.array(single[::-1]).T  # noqa: N806
    expect(bool(np.all(np.diag(likeness_BB) > 0.999)), np.diag(likeness_BB))
    expect(likeness_BB.argmax(axis=1).tolist() == list(range(len(TEXTS))), likeness_BB)
    expect(np.allclose(vectors_BD, [one.embedding for one in floats.data], atol=1e-3), "base64 is not float")
    begin = bench.second.bos_id is not None
    num_tokens = sum(len(bench.second.encode(text)) + begin for text in TEXTS)
    expect(batch.usage.prompt_tokens == num_tokens, f"{batch.usage.prompt_tokens} tokens, expected {num_tokens}")
    return f"{width} wide, {len(TEXTS)} texts, {num_tokens} tokens"


def check_bad_vectors(bench: Bench) -> str:
    """No text, too long a text and `dimensions` are refused."""
    with bench.client() as client:
        for more in ({"input": []}, {"input": "long " * 2000}, {"input": "a", "dimensions": 8}, {"input": ""}):
            asked: dict[str, Any] = {"model": "second"} | more
            caught(openai.BadRequestError, lambda asked=asked: client.embeddings.create(**asked))
    return "4 of them"


def check_vectors_async(bench: Bench) -> str:
    """Vectors and answers at once from an event loop."""

    async def ask() -> tuple[int, int]:
        async with bench.async_client() as client:
            calls: list[Coroutine[Any, Any, Any]] = [client.embeddings.create(model="second", input=t) for t in TEXTS]
            answer = client.chat.completions.create(model="second", messages=turns("?"), max_tokens=8)
            *vectors, said = await asyncio.gather(*calls, answer)
        return len(vectors), said.usage.completion_tokens

    found = asyncio.run(ask())
    expect(found[0] == len(TEXTS) and found[1] > 0, found)
    return f"{found[0]} vectors beside an answer"


CHECKS: list[tuple[str, str, Callable[[Bench], str]]] = [
    ("models", "list, retrieve, two behind one port", check_models),
    ("errors", "unsupported options: 400 by name", check_options),
    ("errors", "prompt too long: context_length_exceeded", check_too_long),
    ("errors", "grammar that cannot be read: BadRequestError", check_grammar),
    ("errors", "request too large: 413", check_too_large),
    ("errors", "wrong key: AuthenticationError", check_key),
    ("errors", "unknown model or path: NotFoundError", check_unknown),
    ("errors", "impatient client: APITimeoutError, place free", check_timeout),
    ("async", "the same answer as the synchronous client", check_async),
    ("at once", "8 threads, each its own answer", check_threads),
    ("at once", "8 streams of one loop, each its own answer", check_loop),
    ("queue", "full: RateLimitError with Retry-After", check_queue),
    ("queue", "the client's retries get through", check_retries),
    ("embeddings", "width, length 1, order, base64, usage", check_vectors),
    ("embeddings", "wrong requests: BadRequestError", check_bad_vectors),
    ("embeddings", "beside an answer, asynchronously", check_vectors_async),
]
