"""A `baihua serve` process for the duration of a benchmark."""

import json
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

START_SECONDS = 120
CHAT = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its address, process and log."""

    url: str
    process: psutil.Popen
    log: Path

    def is_alive(self) -> bool:
        """Whether its process runs and responds."""
        if self.process.poll() is not None:
            return False
        return httpx.get(f"{self.url}/health", timeout=30).status_code == 200

    def rss_mib(self) -> float:
        """Resident memory of the process."""
        return self.process.memory_info().rss / 2**20

    def complaints(self) -> list[str]:
        """Log lines after the startup message; there should be none."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in lines if not re.match(r"chat page|API|models|open to", line)]


@contextmanager
def serving(*words: str) -> Iterator[Server]:
    """Start `baihua serve` on a free port with these arguments, wait until it responds, and stop it at the end."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as stream:
            command = [sys.executable, "-m", "baihua", "serve", "--port", "0", *words]
            process = psutil.Popen(command, stdout=stream, stderr=stream)
        try:
            yield Server(_wait(process, log), process, log)
        finally:
            process.terminate()
            process.wait(150)


def _wait(process: psutil.Popen, log: Path) -> str:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text(encoding="utf-8"))
        if found and _answers(found[0]):
            return found[0]
        time.sleep(0.1)
    raise SystemExit(f"the server did not start: {log.read_text(encoding='utf-8')[-2000:]}")


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def ask(question: str, **more: Any) -> dict[str, Any]:
    """The body of a chat request to the model `m`."""
    return {"model": "m", "messages": [{"role": "user", "content": question}]} | more


def marker_grammar(marker: str, *, num_least: int = 1) -> str:
    """A grammar that only allows repetitions of one marker; long answers end at their token limit."""
    return f"root ::= {json.dumps(marker, ensure_ascii=False)}{{{num_least},}}"


def is_repeated(text: str, marker: str) -> bool:
    """Whether a text consists of repetitions of a marker; the last may be incomplete."""
    return bool(text) and (marker * (len(text) // len(marker) + 1)).startswith(text)


async def read_events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The events of a stream; a ValueError if it ends without [DONE] or contains an error."""
    async for line in response.aiter_lines():
        if line == "data: [DONE]":
            return
        if not line.startswith("data: "):
            continue
        event = json.loads(line.removeprefix("data: "))
        if "error" in event:
            raise ValueError(f"an error within the stream: {event['error']}")
        yield event
    raise ValueError("the stream ended without [DONE]")


def delta_of(event: dict[str, Any]) -> str:
    """The text that an event of a chat adds."""
    return "".join(choice["delta"].get("content") or "" for choice in event["choices"])
