"""`baihua serve` as a process: what it prints, how it stops."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import parrot
import pytest
from served_process import serving

from baihua.compress.export import write_gguf

ASK = {"model": "m", "messages": [{"role": "user", "content": "你好"}], "stream": True, "max_tokens": 400}
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = parrot.make(tmp_path_factory.mktemp("endless"), "鲸吞", is_endless=True)
    write_gguf(folder, folder / "endless.gguf", level="f16")
    return folder / "endless.gguf"


@pytest.fixture
def server(endless: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its address."""
    with serving(f"m={endless}", "--slots", "1", "--threads", "1", "--context", "512", cwd=tmp_path) as running:
        yield running


def test_sigterm_finishes_what_runs_and_turns_away_what_waits(server: tuple[subprocess.Popen[str], str]) -> None:
    process, url = server
    with (
        httpx.Client(timeout=60) as client,
        client.stream("POST", f"{url}/v1/chat/completions", json=ASK) as running,
    ):
        lines = running.iter_lines()
        next(lines)
        process.send_signal(signal.SIGTERM)
        rest = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert rest[-1]["choices"][0]["finish_reason"] == "length"
    assert process.wait(30) == 0
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/health")


def test_a_second_interrupt_does_not_wait(server: tuple[subprocess.Popen[str], str]) -> None:
    process, url = server
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=ASK, timeout=60) as running:
        next(running.iter_raw())
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        # 130 where the second one comes when all is over.
        assert process.wait(20) in (0, 130)


def test_another_address_needs_a_key(endless: Path, tmp_path: Path) -> None:
    words = [str(endless), "--host", "0.0.0.0", "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "BAIHUA_API_KEY"}
    found = subprocess.run(
        [sys.executable, "-m", "baihua", "serve", *words],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert found.returncode == 2
    assert "listening beyond this machine requires an API key" in found.stderr


def test_a_port_that_is_taken_is_an_error(server: tuple[subprocess.Popen[str], str], endless: Path) -> None:
    port = server[1].rpartition(":")[2]
    words = [str(endless), "--port", port]
    found = subprocess.run(
        [sys.executable, "-m", "baihua", "serve", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert found.returncode == 2
    assert "cannot listen on this address" in found.stderr
