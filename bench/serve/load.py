"""Fairness, queueing and cleanup of the server under load.

Usage: python bench/serve/load.py MODEL.gguf [--part streams|overload|vanish|all] [--slots 8]
           [--threads 1] [--seconds 60] [--clients 32] [--requests 500] [--bursts 3] [--leavers 200] [--wave 20]

streams: 32 clients that send requests for a minute. A grammar allows each client only its own marker, which reveals
text sent to the wrong client. Required: no errors, no mixed-up text, and the slowest client has at least half as many
answers as the fastest.

overload: bursts of 500 simultaneous requests against a queue of 16. Required: each is answered completely, or with 429
or 503 and `Retry-After`; never more are admitted than slots and queue hold; the last burst leaves at most 16 MiB more
memory in use than the one before; afterwards the server responds and its log is empty. The requests are of 16 kinds,
each sent once beforehand, because llama.cpp caches prompts up to 1 GiB, and that cache must not count as growth.

vanish: 200 clients that disconnect after the first text, every fifth while still queued, in waves of 20. Required: at
most one second after the last client of a wave has left, /metrics reports no running and no waiting requests; in the
end the server has no more open files than before.
"""

import argparse
import asyncio
import collections
import random
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from server import CHAT, Server, ask, delta_of, is_repeated, marker_grammar, read_events, serving

MAX_WAITING = 16
LEAST_FAIRNESS = 0.5
MOST_GROWTH_MIB = 16
NUM_KINDS = 16
MOST_SECONDS_TO_FREE = 1.0
EVERYBODY = httpx.Limits(max_connections=None, max_keepalive_connections=0)


@dataclass(slots=True)
class Report:
    """Figures of one part, and unmet requirements."""

    wrong: list[str] = field(default_factory=list)

    def show(self, name: str, value: object) -> None:
        """Print a figure."""
        print(f"{name:<44}{value}", flush=True)

    def must(self, is_met: bool, text: str) -> None:
        """Record an unmet requirement."""
        if not is_met:
            self.wrong.append(text)


def main() -> int:
    """Run the parts, each against a new server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--slots", type=int, default=8)
    # llama.cpp's threads busy-wait; the other cores are for the front and the clients.
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--bursts", type=int, default=3)
    parser.add_argument("--leavers", type=int, default=200)
    parser.add_argument("--wave", type=int, default=20)
    arguments = parser.parse_args()
    num_wrong = 0
    for name in PARTS if arguments.part == "all" else [arguments.part]:
        print(f"-- {name}", flush=True)
        num_wrong += run_part(name, arguments)
    return int(num_wrong > 0)


def run_part(name: str, arguments: argparse.Namespace) -> int:
    """Run one part; the number of unmet requirements."""
    part, max_waiting = PARTS[name]
    words = ["--slots", str(arguments.slots), "--threads", str(arguments.threads), "--context", "1024"]
    report = Report()
    with serving(f"m={arguments.model}", *words, "--max-waiting", str(max_waiting)) as server:
        asyncio.run(part(server, arguments, report))
        report.must(server.is_alive(), "the server does not respond afterwards")
        report.must(not server.complaints(), f"the server's log: {server.complaints()[-5:]}")
    print(*[f"wrong: {one}" for one in report.wrong[:20]], f"{len(report.wrong)} wrong", sep="\n", flush=True)
    return len(report.wrong)


def opened(server: Server) -> httpx.AsyncClient:
    """A client with unlimited connections."""
    return httpx.AsyncClient(base_url=server.url, timeout=300, limits=EVERYBODY)


async def run_streams(server: Server, arguments: argparse.Namespace, report: Report) -> None:
    """Many clients that send one request after another."""
    end = time.monotonic() + arguments.seconds
    async with opened(server) as client:
        done = await asyncio.gather(*[keep_asking(client, number, end, report) for number in range(arguments.clients)])
    fairness = min(done) / max(done) if max(done) else 0.0
    report.show("clients, slots, seconds", f"{arguments.clients}, {arguments.slots}, {arguments.seconds:g}")
    report.show("answers of each client", " ".join(map(str, done)))
    report.show("answers, errors and mixed up", f"{sum(done):,}, {len(report.wrong)}")
    report.show("fairness, slowest / fastest", f"{min(done)} / {max(done)} = {fairness:.2f}")
    report.must(fairness >= LEAST_FAIRNESS, f"fairness {fairness:.2f}, expected at least {LEAST_FAIRNESS}")


async def keep_asking(client: httpx.AsyncClient, number: int, end: float, report: Report) -> int:
    """Request streams until the time is over; the number received."""
    marker = f"编号-{number:04d};"
    rng = random.Random(number)
    num_done = 0
    while time.monotonic() < end:
        body = ask(
            f"{number}号在吗？",
            grammar=marker_grammar(marker, num_least=8),
            max_tokens=rng.randint(32, 64),
            stream=True,
        )
        try:
            text = await read_stream(client, body)
        except (httpx.HTTPError, ValueError) as error:
            report.wrong.append(f"client {number}: {error!r}")
            continue
        num_done += 1
        report.must(is_repeated(text, marker), f"client {number} got {text!r}")
    return num_done


async def read_stream(client: httpx.AsyncClient, body: dict[str, Any]) -> str:
    """The text of a stream that must be complete."""
    async with client.stream("POST", CHAT, json=body) as response:
        response.raise_for_status()
        return "".join([delta_of(event) async for event in read_events(response)])


async def run_overload(server: Server, arguments: argparse.Namespace, report: Report) -> None:
    """Bursts of more requests than the queue holds."""
    growths: list[float] = []
    async with opened(server) as client:
        await asyncio.gather(*[ask_once(client, number) for number in range(NUM_KINDS)])
        for _ in range(arguments.bursts):
            growths.append(await burst(server, client, arguments, report))
    report.must(growths[-1] <= MOST_GROWTH_MIB, f"the last burst left {growths[-1]:+.1f} MiB")


async def burst(server: Server, client: httpx.AsyncClient, arguments: argparse.Namespace, report: Report) -> float:
    """Simultaneous requests; the growth of memory in MiB."""
    before, peaks = server.rss_mib(), collections.Counter[str]()
    started = time.monotonic()
    watching = asyncio.create_task(watch(server, client, peaks))
    outcomes = collections.Counter(await asyncio.gather(*[ask_once(client, i) for i in range(arguments.requests)]))
    seconds = time.monotonic() - started
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    after = server.rss_mib()
    report.show(
        f"{arguments.requests} at once, {seconds:.1f} s",
        ", ".join(f"{n} x {one}" for one, n in sorted(outcomes.items())),
    )
    report.show(
        "  memory before, peak, after, growth MiB", f"{before:.0f} {peaks['rss']} {after:.0f} {after - before:+.1f}"
    )
    room = arguments.slots + MAX_WAITING
    report.show("  peak admitted, room", f"{peaks['admitted']} {room}")
    report.must(peaks["admitted"] <= room, f"{peaks['admitted']} were admitted, with room for {room}")
    for outcome, num in outcomes.items():
        report.must(outcome in CLEAN, f"{num} x {outcome}")
    report.must(outcomes["200 complete"] > 0, "no request was answered")
    return after - before


CLEAN = ("200 complete", "429 with Retry-After", "503 with Retry-After")


async def ask_once(client: httpx.AsyncClient, number: int) -> str:
    """Send a request, every second one streamed; a description of the response."""
    marker = f"第{number % NUM_KINDS:04d}号。"
    body = ask("在吗？", grammar=marker_grammar(marker, num_least=4), max_tokens=24, temperature=0)
    try:
        if number % 2:
            return judge(200, await read_stream(client, body | {"stream": True}), marker)
        answer = await client.post(CHAT, json=body)
        answer.raise_for_status()
        return judge(200, answer.json()["choices"][0]["message"]["content"], marker)
    except httpx.HTTPStatusError as error:
        wait = error.response.headers.get("retry-after", "")
        return f"{error.response.status_code} {'with' if wait.isdigit() and int(wait) else 'WITHOUT'} Retry-After"
    except (httpx.HTTPError, ValueError) as error:
        return type(error).__name__


def judge(status: int, text: str, marker: str) -> str:
    """Describe an answer."""
    return f"{status} complete" if is_repeated(text, marker) else f"{status} with {text!r} instead of {marker!r}"


async def watch(server: Server, client: httpx.AsyncClient, peaks: collections.Counter[str]) -> None:
    """Record peak memory and peak running and waiting requests, until cancelled."""
    while True:
        peaks["rss"] = max(peaks["rss"], round(server.rss_mib()))
        peaks["admitted"] = max(peaks["admitted"], sum((await read_gauges(client)).values()))
        await asyncio.sleep(0.05)


async def read_gauges(client: httpx.AsyncClient) -> dict[str, int]:
    """Running answers and waiting requests."""
    text = (await client.get("/metrics")).text
    rows = [line.split() for line in text.splitlines() if line.startswith(("baihua_running{", "baihua_waiting{"))]
    return {name.partition("{")[0].removeprefix("baihua_"): int(float(value)) for name, value in rows}


async def run_vanish(server: Server, arguments: argparse.Namespace, report: Report) -> None:
    """Waves of clients that disconnect."""
    async with opened(server) as client:
        await asyncio.gather(*[ask_once(client, number) for number in range(arguments.slots)])
        num_files = server.process.num_fds()
        waits = [
            await vanish(client, min(arguments.wave, arguments.leavers - first), report)
            for first in range(0, arguments.leavers, arguments.wave)
        ]
        started = time.monotonic()
        outcome = await ask_once(client, 1)
        report.must(outcome == "200 complete", f"afterwards an answer is {outcome}")
        report.show("a new answer of 24 tokens afterwards, s", f"{time.monotonic() - started:.2f}")
    # uvicorn closes the last connections at its next tick.
    await asyncio.sleep(1)
    report.show("clients, waves", f"{arguments.leavers}, {len(waits)}")
    report.show("seconds from a wave's last drop to free", " ".join(f"{wait:.3f}" for wait in waits))
    report.show("longest", f"{max(waits):.3f}")
    report.show("open files before, after", f"{num_files}, {server.process.num_fds()}")
    report.must(max(waits) <= MOST_SECONDS_TO_FREE, f"free after {max(waits):.2f} s, expected {MOST_SECONDS_TO_FREE}")
    report.must(server.process.num_fds() <= num_files, f"{server.process.num_fds() - num_files} files stay open")


async def vanish(client: httpx.AsyncClient, num_clients: int, report: Report) -> float:
    """One wave; seconds from its last disconnect until nothing runs or waits."""
    leaving = [asyncio.create_task(leave(client, number)) for number in range(num_clients)]
    busiest = 0
    while not all(one.done() for one in leaving):
        gauges = await read_gauges(client)
        busiest = max(busiest, gauges["running"])
        await asyncio.sleep(0.02)
    dropped = max([await one for one in leaving])
    report.must(busiest > 0, "no request was seen running, so nothing was proved")
    while sum((await read_gauges(client)).values()):
        if time.monotonic() > dropped + 60:
            return 60.0
        await asyncio.sleep(0.01)
    return time.monotonic() - dropped


async def leave(client: httpx.AsyncClient, number: int) -> float:
    """Request a long answer and disconnect after the first text or a short time; the time of that."""
    body = ask("数数", grammar=marker_grammar(f"{number}、", num_least=500), max_tokens=900, stream=True)
    patience = 0.2 if number % 5 == 4 else 300
    with suppress(TimeoutError):
        async with asyncio.timeout(patience), client.stream("POST", CHAT, json=body) as response:
            response.raise_for_status()
            await wait_for_text(response)
    return time.monotonic()


async def wait_for_text(response: httpx.Response) -> None:
    """Return at the first text of a stream."""
    async for event in read_events(response):
        if delta_of(event):
            return


Part = Callable[[Server, argparse.Namespace, Report], Coroutine[Any, Any, None]]
# Each with the length of its server's queue.
PARTS: dict[str, tuple[Part, int]] = {
    "streams": (run_streams, 256),
    "overload": (run_overload, MAX_WAITING),
    "vanish": (run_vanish, 256),
}

if __name__ == "__main__":
    sys.exit(main())
