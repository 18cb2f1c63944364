"""Streams: disconnects, errors and time limits."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from live_server import live, make, served
from scripted_engine import END, ScriptedEngine

from baihua.chat.types import Piece, Usage
from baihua.core.errors import InputError, RunError
from baihua.serve.web.streaming import iterate_in_thread

ASK = {"model": "m", "messages": [{"role": "user", "content": "你好"}], "stream": True}
COMPLETIONS = "/v1/chat/completions"


def events(response: httpx.Response) -> list[str]:
    return [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]


def texts(lines: list[str]) -> str:
    parts = [json.loads(line) for line in lines if line != "[DONE]"]
    return "".join(part["choices"][0]["delta"].get("content", "") for part in parts if part.get("choices"))


def wait_until(is_so, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def running(url: str, what: str = "running") -> float:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"baihua_{what}"))


@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize("num_before", [0, 1])
def test_a_disconnect_frees_the_slot(is_stream: bool, num_before: int) -> None:
    engine = ScriptedEngine(*[Piece("一")] * num_before, None, END)
    with served({"m": engine}) as url:
        leave(url, is_stream=is_stream)
        assert engine.was_left.wait(30)
        wait_until(lambda: running(url) == 0)
        engine.go.set()
        with httpx.stream("POST", url + COMPLETIONS, json=ASK) as response:
            assert events(response)[-1] == "[DONE]"


def test_a_disconnect_while_queued_for_a_vector_leaves_the_queue() -> None:
    engine = ScriptedEngine(Piece("一"), None, END)
    with served({"m": engine}) as url, httpx.stream("POST", url + COMPLETIONS, json=ASK) as response:
        lines = response.iter_lines()
        next(lines)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/embeddings", json={"model": "m", "input": "你好"}, timeout=0.3)
        wait_until(lambda: running(url, "waiting") == 0)
        assert running(url) == 1
        engine.go.set()


def leave(url: str, *, is_stream: bool) -> None:
    """Ask, and go away: after the first bytes of a stream, or before there is any answer."""
    if is_stream:
        with httpx.stream("POST", url + COMPLETIONS, json=ASK) as response:
            next(response.iter_raw())
    else:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url + COMPLETIONS, json=ASK | {"stream": False}, timeout=0.3)


def test_a_stream_without_text_yet_sends_comments() -> None:
    engine = ScriptedEngine(None, Piece("好"), END)
    with served({"m": engine}) as url, httpx.stream("POST", url + COMPLETIONS, json=ASK) as response:
        lines = response.iter_lines()
        assert ": reading" in [next(lines) for _ in range(6)]
        engine.go.set()
        assert "data: [DONE]" in list(lines)


def test_an_error_before_the_first_text_has_a_status() -> None:
    wrong = ScriptedEngine(InputError("the grammar is wrong", where="/secret/path", fix="fix it"))
    broken = ScriptedEngine(RunError("the disk /secret/path is gone"))
    with served({"m": wrong, "n": broken}) as url:
        found = httpx.post(url + COMPLETIONS, json=ASK)
        assert (found.status_code, found.json()["error"]["message"]) == (400, "the grammar is wrong (fix it)")
        for is_stream in (True, False):
            found = httpx.post(url + COMPLETIONS, json=ASK | {"model": "n", "stream": is_stream})
            assert (found.status_code, found.json()["error"]["code"]) == (500, "engine_error")
            assert "secret" not in found.text


def test_an_error_after_some_text_is_an_event_and_no_end() -> None:
    engine = ScriptedEngine(Piece("一半"), RunError("gone"))
    with served({"m": engine}) as url, httpx.stream("POST", url + COMPLETIONS, json=ASK) as response:
        lines = events(response)
    assert response.status_code == 200
    assert texts(lines[:-1]) == "一半"
    assert json.loads(lines[-1])["error"]["code"] == "engine_error"


def test_an_engine_that_ends_without_an_end_is_an_error() -> None:
    engine = ScriptedEngine(Piece("一半"))
    with served({"m": engine}) as url:
        found = httpx.post(url + COMPLETIONS, json=ASK | {"stream": False})
    assert (found.status_code, found.json()["error"]["message"]) == (
        500,
        "the engine ended the answer before it was complete",
    )


@pytest.mark.parametrize("num_before", [0, 1])
def test_an_answer_that_takes_too_long_is_broken_off(num_before: int) -> None:
    engine = ScriptedEngine(*[Piece("一")] * num_before, None, END)
    with served({"m": engine}, max_answer_seconds=0.3) as url:
        with httpx.stream("POST", url + COMPLETIONS, json=ASK) as response:
            lines = events(response)
        assert json.loads(lines[-1])["error"]["code"] == "timeout"
        found = httpx.post(url + COMPLETIONS, json=ASK | {"stream": False})
        assert (found.status_code, found.json()["error"]["code"]) == (503, "timeout")
        assert engine.was_left.wait(30)


def test_the_queue_is_bounded_and_says_when_to_retry() -> None:
    engine = ScriptedEngine(None, END)
    with served({"m": engine}, max_waiting=2) as url, ThreadPoolExecutor(3) as pool:
        first = [pool.submit(httpx.post, url + COMPLETIONS, json=ASK, timeout=30) for _ in range(3)]
        wait_until(lambda: 'baihua_waiting{engine="m"} 2.0' in httpx.get(f"{url}/metrics").text)
        found = httpx.post(url + COMPLETIONS, json=ASK)
        assert (found.status_code, found.json()["error"]["code"]) == (429, "queue_full")
        assert int(found.headers["retry-after"]) >= 1
        engine.go.set()
        assert [one.result().status_code for one in first] == [200] * 3


def test_closed_gates_turn_away_and_running_answers_finish() -> None:
    engine = ScriptedEngine(Piece("一"), None, Piece("二"), END)
    app, api = make({"m": engine})
    with live(app) as url, httpx.stream("POST", url + COMPLETIONS, json=ASK) as response:
        lines = response.iter_lines()
        next(lines)
        api.close_queues()
        found = httpx.post(url + COMPLETIONS, json=ASK)
        assert (found.status_code, found.json()["error"]["code"]) == (503, "stopping")
        assert httpx.get(f"{url}/health").status_code == 503
        engine.go.set()
        assert "二" in "".join(lines)


def test_pieces_cross_over_in_order_and_errors_with_them() -> None:
    def count(until: int) -> Iterator[int]:
        yield from range(until)
        raise RunError("no more numbers")

    async def work(threads: ThreadPoolExecutor) -> list[int]:
        found: list[int] = []
        with pytest.raises(RunError, match="no more numbers"):
            async for number in iterate_in_thread(lambda: count(200), threads=threads):
                found.append(number)
        return found

    with ThreadPoolExecutor(1) as threads:
        assert asyncio.run(work(threads)) == list(range(200))


def test_closing_the_generator_closes_the_iterator_on_its_own_thread() -> None:
    closed_by: list[str] = []

    def endless() -> Iterator[int]:
        try:
            while True:
                time.sleep(0.001)
                yield 1
        finally:
            closed_by.append(threading.current_thread().name)

    async def work(threads: ThreadPoolExecutor) -> None:
        numbers = iterate_in_thread(endless, threads=threads)
        await anext(numbers)
        await numbers.aclose()

    with ThreadPoolExecutor(1, "reader") as threads:
        asyncio.run(work(threads))
    assert closed_by == ["reader_0"]


@pytest.mark.parametrize("num_before", [0, 1])
def test_usage_comes_last_where_it_is_asked_for(num_before: int) -> None:
    engine = ScriptedEngine(*[Piece("好")] * num_before, Piece("", "length", Usage(7, 9)))
    with served({"m": engine}) as url:
        asked = ASK | {"stream_options": {"include_usage": True}}
        with httpx.stream("POST", url + COMPLETIONS, json=asked) as response:
            lines = events(response)
    last = json.loads(lines[-2])
    assert (last["choices"], last["usage"]["total_tokens"], lines[-1]) == ([], 16, "[DONE]")
    assert json.loads(lines[-3])["choices"][0]["finish_reason"] == "length"
