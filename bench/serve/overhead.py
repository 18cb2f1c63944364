"""Overhead of `baihua serve` compared with llama.cpp's own HTTP server, in alternating rounds of one run.

Usage: python bench/serve/overhead.py MODEL.gguf [--rounds 7] [--tokens 128] [--streams 1 4]
       [--threads N] [--prompt-tokens 48]

Both servers load the same file with the same slots and threads, and stream greedy answers to the same prompts of token
ids, one at a time and several at once. The prompt cache is off, as in our server for answers that must repeat. Printed
are medians over the rounds of tokens per second and time to first text, and the median of the ratios and differences
within each round.
"""

import argparse
import json
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import xllamacpp
from server import serving

CONTEXT, SLOTS = 1024, 4
IDS = [(7 * i) % 300 + 20 for i in range(48)]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt-tokens", type=int, default=48, help="few show the time to first text best")
    arguments = parser.parse_args()
    words = ("--slots", str(SLOTS), "--context", str(CONTEXT), "--threads", str(arguments.threads))
    with serving(f"m={arguments.model}", *words) as server:
        bare = open_bare(arguments.model, arguments.threads)
        theirs = f"http://{bare.listening_address.removeprefix('http://')}"
        for num_streams in arguments.streams:
            compare(server.url, theirs, num_streams, arguments)
    return 0


def open_bare(model: Path, num_threads: int) -> "xllamacpp.Server":  # pyright: ignore[reportAttributeAccessIssue]
    """llama.cpp's server with its own HTTP, in this process."""
    wanted = xllamacpp.CommonParams()  # pyright: ignore[reportAttributeAccessIssue]
    wanted.model.path = str(model)
    wanted.n_ctx, wanted.n_parallel = CONTEXT * SLOTS, SLOTS
    wanted.n_batch = wanted.n_ubatch = 512
    wanted.cpuparams.n_threads = wanted.cpuparams_batch.n_threads = num_threads
    wanted.warmup, wanted.verbosity = False, 0
    wanted.hostnames, wanted.port = ["127.0.0.1"], 0
    return xllamacpp.Server(wanted)  # pyright: ignore[reportAttributeAccessIssue]


def compare(ours: str, theirs: str, num_streams: int, arguments: argparse.Namespace) -> None:
    """Alternate rounds of both; each goes first in every second round."""
    found: dict[str, list[tuple[float, float]]] = {ours: [], theirs: []}
    prompt = {"prompt": IDS[: arguments.prompt_tokens]}
    more = {ours: prompt, theirs: prompt | {"cache_prompt": False, "min_p": 0.0}}
    for url in found:
        measure(url, num_streams, 8, more=more[url])
    for number in range(arguments.rounds):
        for url in (ours, theirs) if number % 2 else (theirs, ours):
            found[url].append(measure(url, num_streams, arguments.tokens, more=more[url]))
    rates = {url: statistics.median(rate for rate, _ in rows) for url, rows in found.items()}
    firsts = {url: statistics.median(first for _, first in rows) for url, rows in found.items()}
    pairs = list(zip(found[ours], found[theirs], strict=True))
    ratio = statistics.median(one[0] / other[0] for one, other in pairs)
    added = statistics.median(one[1] - other[1] for one, other in pairs)
    print(
        f"{num_streams} at once, n = {arguments.rounds}: ours {rates[ours]:.1f} tokens/s, bare {rates[theirs]:.1f}; "
        f"ratio {ratio:.3f}; first text ours {1000 * firsts[ours]:.1f} ms, bare {1000 * firsts[theirs]:.1f}; "
        f"added {1000 * added:+.1f} ms",
        flush=True,
    )


def measure(url: str, num_streams: int, num_tokens: int, *, more: dict[str, Any]) -> tuple[float, float]:
    """Tokens per second of all streams together, and the median time to first text in seconds."""
    barrier = threading.Barrier(num_streams)
    with ThreadPoolExecutor(num_streams) as pool:
        done = list(pool.map(lambda _: ask(url, num_tokens, barrier, more), range(num_streams)))
    seconds = max(one.end for one in done) - min(one.begin for one in done)
    return sum(one.num_tokens for one in done) / seconds, statistics.median(one.first - one.begin for one in done)


@dataclass(frozen=True, slots=True)
class Done:
    """Times of an answer, in seconds, and its length."""

    begin: float
    first: float
    end: float
    num_tokens: int


def ask(url: str, num_tokens: int, barrier: threading.Barrier, more: dict[str, Any]) -> Done:
    """Request an answer and time its stream."""
    body = {"model": "m", "max_tokens": num_tokens, "temperature": 0, "stream": True}
    body |= {"stream_options": {"include_usage": True}} | more
    first, num_written = 0.0, 0
    with httpx.Client(timeout=300) as client:
        client.get(f"{url}/health")
        barrier.wait()
        begin = time.perf_counter()
        with client.stream("POST", f"{url}/v1/completions", json=body) as response:
            response.raise_for_status()
            for line in response.iter_lines():
                if not line.startswith("data: {"):
                    continue
                part = json.loads(line[6:])
                if not first and part["choices"] and part["choices"][0]["text"]:
                    first = time.perf_counter()
                num_written = (part.get("usage") or {}).get("completion_tokens", num_written)
        return Done(begin, first, time.perf_counter(), num_written)


if __name__ == "__main__":
    sys.exit(main())
