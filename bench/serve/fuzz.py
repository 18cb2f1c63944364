"""Fuzzing of the server with thousands of mutated and malformed requests.

Usage: python bench/serve/fuzz.py MODEL [--cases 5000] [--seed 0] [--engine transformers]

Allowed responses are 200, the errors 400, 401, 404, 405, 413, 415 and 431 in OpenAI's form, and 429 and 503 from the
queue; after bytes that are not HTTP the server may close the connection. Anything else is printed, and the exit status
is 1. At the end the server must still answer a valid request.
"""

import argparse
import collections
import json
import random
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from odd_requests import odd_request
from server import serving

# 100 comes first if a client waits for permission to send its body.
ALLOWED = {100, 200, 400, 401, 404, 405, 413, 415, 429, 431, 503}
QUEUE = {"queue_full", "queue_timeout", "stopping", "timeout"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
GOOD: list[tuple[str, dict[str, Any]]] = [
    (
        "/v1/chat/completions",
        {
            "model": "m",
            "messages": [{"role": "system", "content": "简短"}, {"role": "user", "content": "你好"}],
            "max_tokens": 2,
            "temperature": 0.7,
            "top_p": 0.9,
            "top_k": 40,
            "min_p": 0.05,
            "repeat_penalty": 1.1,
            "presence_penalty": 0.1,
            "frequency_penalty": 0.1,
            "seed": 1,
            "stop": ["完"],
            "logprobs": True,
            "top_logprobs": 2,
            "stream": False,
            "stream_options": {"include_usage": True},
        },
    ),
    (
        "/v1/chat/completions",
        {
            "model": "m",
            "messages": [{"role": "user", "content": [{"type": "text", "text": "给我 JSON"}]}],
            "max_tokens": 3,
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
        },
    ),
    ("/v1/completions", {"model": "m", "prompt": "今天", "max_tokens": 2, "logprobs": 1, "grammar": "root ::= [a-z]+"}),
    ("/v1/completions", {"model": "m", "prompt": [1, 2, 3], "max_tokens": 2, "stream": True}),
    ("/v1/embeddings", {"model": "m", "input": ["你好", "天气"], "encoding_format": "float"}),
]
TEXTS = [
    *("", " ", "\0", "\u202e", "\ufeff", "<|im_end|>", "{{7*7}}", "{% for x in y %}", "../../etc/passwd", "'; DROP"),
    *(
        "👨‍👩‍👧‍👦",
        "𠮷",
        "e\u0301" * 50,
        "\ue0000c\ue001",
        "长" * 3000,
        "%00",
        "NaN",
        "\r\nSet-Cookie: a=b",
        "a" * 100_000,
    ),
]
NUMBERS = [0, -1, 1, 2**31, 2**32 - 1, 2**63, -(2**63), 10**30, 1e308, -1e308, 5e-324, 0.1, 1e-9, 20, 21]
OTHERS: list[Any] = [None, True, False, [], {}, [[]], [None], {"a": {"a": {}}}, [1, "a"], {"type": "object"}]
PATHS = [
    *(
        "/",
        "/pages/../app.py",
        "/pages/%2e%2e%2fapp.py",
        "/pages/..%5cx",
        "/v1",
        "/v1/",
        "//v1/models",
        "/v1/models/%00",
    ),
    *(
        "/v1/models/../../x",
        "/v1/models/" + "a" * 5000,
        "/v1/chat/completions/",
        "/%ff",
        "/pages/",
        "/metrics/x",
        "/v1/models/中",
    ),
]
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "FOO"]
HEADERS: list[dict[str, str]] = [
    {"Content-Type": "text/plain"},
    {"Content-Type": "application/json; charset=utf-16"},
    {"Content-Type": ""},
    {"Content-Length": "99999999999999999999"},
    {"Content-Length": "-1"},
    {"Content-Length": "5"},
    {"Transfer-Encoding": "chunked"},
    {"Authorization": "Bearer " + "x" * 8000},
    {"Host": "evil.example"},
    {"Host": "a" * 300},
    {"Accept-Encoding": "gzip;q=nan"},
    {"Range": "bytes=0-"},
    {"Expect": "100-continue"},
    {"X-Forwarded-For": "1.2.3.4, " * 500},
]


def main() -> int:
    """Start the server, send requests and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=["llama_cpp", "transformers"], default="llama_cpp")
    arguments = parser.parse_args()
    limits = ("--slots", "2", "--context", "512", "--max-seconds", "20")
    with serving(f"m={arguments.model}", "--engine", arguments.engine, *limits) as server:
        counts, wrong = ask_all(server.url, num_cases=arguments.cases, rng=random.Random(arguments.seed))
        is_alive = server.is_alive() and is_answering(server.url)
    print(
        f"{sum(counts.values()):,} requests: "
        + ", ".join(f"{count:,} x {status}" for status, count in sorted(counts.items()))
    )
    print(f"server alive and answering at the end: {is_alive}")
    for one in wrong[:20]:
        print(one)
    return int(bool(wrong) or not is_alive)


def is_answering(url: str) -> bool:
    """Whether a valid request is answered."""
    path, body = GOOD[0]
    try:
        return httpx.post(url + path, json=body, timeout=60).status_code == 200
    except httpx.TransportError:
        return False


def ask_all(url: str, *, num_cases: int, rng: random.Random) -> tuple[collections.Counter[str], list[str]]:
    """Send requests; counts by status, and a line for each response that is not allowed."""
    counts: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    with httpx.Client(base_url=url, timeout=60) as client:
        for number in range(num_cases):
            make = rng.choices([spoiled_body, odd_body, broken_bytes, None], weights=[6, 4, 2, 2])[0]
            if make is None:
                data = odd_bytes(rng)
                status, problem = send_raw(url, data)
                shown = repr(data[:400])
            else:
                request = make(client, rng)
                status, problem = send(client, request)
                shown = describe(request)
            counts[status] += 1
            if problem:
                wrong.append(f"case {number}: {problem} for {shown}")
    return counts, wrong


def send(client: httpx.Client, request: httpx.Request) -> tuple[str, str | None]:
    """The status, and what is wrong with the response."""
    try:
        answer = client.send(request)
    except httpx.TransportError as error:
        return type(error).__name__, repr(error)
    return str(answer.status_code), judge(answer)


def send_raw(url: str, data: bytes) -> tuple[str, str | None]:
    """The same for arbitrary bytes."""
    host, _, port = url.removeprefix("http://").partition(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                answer += part
        except (ConnectionError, TimeoutError) as error:
            # Closed while still writing: allowed after a response, or if the bytes were not HTTP.
            answer = answer or type(error).__name__.encode()
    if not answer.startswith(b"HTTP/1.1 "):
        return "closed", "no answer in 30 s" if answer == b"TimeoutError" else None
    status = answer[9:12].decode()
    is_wrong = int(status) not in ALLOWED or b"Traceback" in answer
    return status, f"status {status}: {answer[-300:]!r}" if is_wrong else None


def judge(answer: httpx.Response) -> str | None:
    """What is wrong with a response."""
    if answer.status_code not in ALLOWED:
        return f"status {answer.status_code}: {answer.text[:200]}"
    kind = answer.headers.get("content-type", "")
    if answer.status_code != 200 and answer.request.method != "HEAD" and kind.startswith("application/json"):
        error = answer.json().get("error", {})
        if not error.get("message"):
            return f"no message in {answer.text[:200]}"
        if answer.status_code == 503 and error.get("code") not in QUEUE:
            return f"503 that is not from the queue: {answer.text[:200]}"
    if "Traceback" in answer.text or "/src/baihua" in answer.text:
        return f"reveals internals: {answer.text[:200]}"
    return None


def odd_body(client: httpx.Client, rng: random.Random) -> httpx.Request:
    """An unusual but valid request."""
    path, body = odd_request(rng)
    return client.build_request("POST", path, json=body)


def spoiled_body(client: httpx.Client, rng: random.Random) -> httpx.Request:
    """A valid request with one to three mutations."""
    path, body = rng.choice(GOOD)
    spoiled: Any = json.loads(json.dumps(body))
    for _ in range(rng.choice([1, 1, 2, 3])):
        spoiled = spoil(spoiled, rng)
    data = json.dumps(spoiled, ensure_ascii=rng.random() < 0.5).encode("utf-8", errors="surrogatepass")
    return client.build_request("POST", path, content=data, headers={"Content-Type": "application/json"})


def spoil(value: Any, rng: random.Random) -> Any:
    """Change, remove or add one value."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        name = rng.choice(sorted(value))
        action = rng.random()
        if action < 0.12:
            return {key: below for key, below in value.items() if key != name}
        if action < 0.2:
            return value | {rng.choice(["x", "tools", "$ref", "type", "enum", "pattern", "maxItems", "n"]): other(rng)}
        return value | {name: spoil(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        action = rng.random()
        if action < 0.15:
            return value[:at] + value[at + 1 :]
        if action < 0.3:
            return value * rng.choice([2, 50, 400])
        return [*value[:at], spoil(value[at], rng), *value[at + 1 :]]
    return other(rng)


def other(rng: random.Random) -> Any:
    """Any value at all."""
    pick: Callable[[], Any] = rng.choice(
        [lambda: rng.choice(TEXTS), lambda: rng.choice(NUMBERS), lambda: rng.choice(OTHERS), lambda: nested(rng)]
    )
    return pick()


def nested(rng: random.Random) -> Any:
    """Lists in lists, as deep as 200."""
    value: Any = rng.choice(OTHERS)
    for _ in range(rng.choice([3, 30, 40, 200])):
        value = [value] if rng.random() < 0.5 else {"properties": {"a": value}, "type": "object"}
    return value


def broken_bytes(client: httpx.Client, rng: random.Random) -> httpx.Request:
    """Bytes that are hardly JSON."""
    path, body = rng.choice(GOOD)
    data = bytearray(json.dumps(body).encode())
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data))
        data[at : at + rng.randint(0, 8)] = rng.randbytes(rng.randint(0, 4)) if rng.random() < 0.7 else b"\\ud800"
    if rng.random() < 0.1:
        data = bytearray(b"[" * rng.choice([100, 500_000, 2_000_000]))
    return client.build_request("POST", path, content=bytes(data), headers={"Content-Type": "application/json"})


def odd_bytes(rng: random.Random) -> bytes:
    """Other paths, methods and headers; now and then no HTTP at all."""
    path, body = rng.choice(GOOD)
    content = json.dumps(body).encode()
    path = rng.choice(PATHS) if rng.random() < 0.6 else path
    headers = {"Host": "127.0.0.1", "Content-Type": "application/json", "Content-Length": str(len(content))}
    headers |= {"Connection": "close"} | (rng.choice(HEADERS) if rng.random() < 0.6 else {})
    lines = [f"{rng.choice(METHODS)} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    data = "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + content
    return data if rng.random() < 0.9 else data.replace(b"\r\n", rng.choice([b"\n", b"\0", b"\r\n\r\n"]), 2)


def describe(request: httpx.Request) -> str:
    """A request in one line."""
    return f"{request.method} {request.url.raw_path[:80]!r} {dict(request.headers)} {request.content[:300]!r}"


if __name__ == "__main__":
    sys.exit(main())
