"""Recovery from the death of a replica: two on Ray Serve under load, one killed with `kill -9`.

Usage: python bench/serve/replicas.py MODEL.gguf [--replicas 2] [--clients 8] [--seconds 60]

Clients request streams one after another. After a third of the time one replica's process is killed. Printed are pieces
per second before the kill and for each second after it, how each request ended, and the time until the rate over five
seconds is back at 0.9 of the rate before. That must be within 30 s, and each request must end with an answer or an
error event.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from server import serving

MAX_RECOVERY_SECONDS, WINDOW, SHARE = 30, 5, 0.9


@dataclass
class Seen:
    """What the clients observed."""

    ends: Counter[str] = field(default_factory=Counter[str])
    tokens: list[float] = field(default_factory=list[float])
    """When each piece of text arrived."""

    def rate(self, begin: float, end: float) -> float:
        """Pieces per second."""
        return sum(begin <= when < end for when in self.tokens) / (end - begin)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=60)
    arguments = parser.parse_args()
    words = ("--threads", "1", "--slots", "2", "--context", "1024", "--max-seconds", "120")
    with serving(f"m={arguments.model}", "--replicas", str(arguments.replicas), *words) as server:
        return kill_one(server.process.pid, server.url, arguments)


def kill_one(front: int, url: str, arguments: argparse.Namespace) -> int:
    """Load, a kill, and the report; 1 if a requirement is not met."""
    seen, is_over = Seen(), threading.Event()
    with ThreadPoolExecutor(arguments.clients) as threads:
        clients = [threads.submit(ask_until, is_over, url, seen) for _ in range(arguments.clients)]
        begun = time.monotonic()
        time.sleep(arguments.seconds / 3)
        victim = next(one for one in psutil.Process(front).children(recursive=True) if "ServeReplica" in one.name())
        os.kill(victim.pid, signal.SIGKILL)
        killed = time.monotonic()
        time.sleep(arguments.seconds * 2 / 3)
        is_over.set()
        for client in clients:
            client.result()
    before = seen.rate(begun + WINDOW, killed)
    steps = range(arguments.seconds * 2 // 3 - WINDOW)
    after = [seen.rate(killed + second, killed + second + 1) for second in steps]
    found = [s for s in steps if seen.rate(killed + s, killed + s + WINDOW) >= SHARE * before]
    print(f"before the kill    {before:6.1f} pieces/s\nafter it, a second {' '.join(f'{rate:.0f}' for rate in after)}")
    print(f"back after         {found[0] if found else 'never'} s (must be at most {MAX_RECOVERY_SECONDS})")
    print(f"requests           {dict(seen.ends)}")
    is_lost = set(seen.ends) - {"answered", "error event after text"}
    return int(bool(is_lost) or not found or found[0] > MAX_RECOVERY_SECONDS)


def ask_until(is_over: threading.Event, url: str, seen: Seen) -> None:
    """Request one stream after another."""
    with httpx.Client(timeout=120) as client:
        while not is_over.is_set():
            try:
                seen.ends[ask(client, url, seen)] += 1
            except httpx.HTTPError as error:
                seen.ends[f"lost: {type(error).__name__}"] += 1


def ask(client: httpx.Client, url: str, seen: Seen) -> str:
    """One stream; how it ended."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Tell me a story."}], "stream": True}
    is_begun, end = False, "lost: no end"
    with client.stream("POST", f"{url}/v1/chat/completions", json=body | {"max_tokens": 48}) as response:
        if response.status_code != 200:
            return f"lost: status {response.status_code}"
        for line in response.iter_lines():
            if line == "data: [DONE]":
                return "answered"
            if not line.startswith("data: "):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                end = "error event after text" if is_begun else "lost: error event before text"
            elif event["choices"][0]["delta"].get("content"):
                is_begun = True
                seen.tokens.append(time.monotonic())
    return end


if __name__ == "__main__":
    sys.exit(main())
