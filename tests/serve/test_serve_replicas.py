"""Replicas on a real Ray Serve: load, death, leaving, and a Ray that runs already."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import parrot
import psutil
import pytest
from cli_runs import run_apart
from served_process import serving

from baihua.compress.export import write_gguf

pytest.importorskip("ray.serve", reason="Ray comes with the extra `cluster`")
pytestmark = [pytest.mark.extras, pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")]

ROOM = ("--slots", "1", "--threads", "1", "--context", "512")
Running = tuple[subprocess.Popen[str], str]


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = parrot.make(tmp_path_factory.mktemp("endless"), "鲸吞", is_endless=True)
    write_gguf(folder, folder / "endless.gguf", level="f16")
    return folder / "endless.gguf"


@pytest.fixture(scope="module")
def server(endless: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(f"m={endless}", *ROOM, "--replicas", "2", cwd=tmp_path_factory.mktemp("front")) as running:
        yield running
        # A killed front would leave its Ray to find out by itself.
        running[0].terminate()
        assert running[0].wait(60) == 0


def replicas(server: Running) -> list[psutil.Process]:
    found = psutil.Process(server[0].pid).children(recursive=True)
    return [process for process in found if "ServeReplica" in process.name()]


def ask(server: Running, max_tokens: int = 200) -> tuple[str, str]:
    """How a stream ended, and its text."""
    body = {"model": "m", "messages": [{"role": "user", "content": "你好"}], "stream": True, "max_tokens": max_tokens}
    text, end = "", "nothing"
    with httpx.stream("POST", f"{server[1]}/v1/chat/completions", json=body, timeout=60) as response:
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            if line == "data: [DONE]":
                return "done", text
            if line.startswith("data: "):
                event = json.loads(line[6:])
                end = "error" if "error" in event else "broken"
                text += "" if "error" in event else event["choices"][0]["delta"].get("content") or ""
    return end, text


def test_both_replicas_work(server: Running) -> None:
    before = [_seconds(one) for one in replicas(server)]
    with ThreadPoolExecutor(4) as threads:
        ends = [end for end, _ in threads.map(lambda _: ask(server, max_tokens=400), range(40))]
    assert ends == ["done"] * 40
    spent = [_seconds(one) - was for one, was in zip(replicas(server), before, strict=True)]
    assert min(spent) > 0.25 * max(spent)


def _seconds(process: psutil.Process) -> float:
    return process.cpu_times().user


def test_clients_that_leave_free_their_places(server: Running) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "你好"}], "stream": True, "max_tokens": 450}
    with ExitStack() as open_streams:
        for _ in range(2):
            response = open_streams.enter_context(
                httpx.stream("POST", f"{server[1]}/v1/chat/completions", json=body, timeout=60)
            )
            lines = response.iter_lines()
            next(lines)
    assert ask(server, max_tokens=4)[0] == "done"


def test_a_killed_replica_under_load_loses_nothing_without_a_word(server: Running) -> None:
    ends: list[str] = []
    is_over = threading.Event()

    def client() -> None:
        while not is_over.is_set():
            end, text = ask(server)
            assert end == "done" or (end == "error" and text), "an error event comes only after text"
            ends.append(end)

    with ThreadPoolExecutor(4) as threads:
        clients = [threads.submit(client) for _ in range(4)]
        time.sleep(1)
        victim = replicas(server)[0]
        os.kill(victim.pid, signal.SIGKILL)
        killed = time.monotonic()
        while len(replicas(server)) < 2 or victim in replicas(server):
            time.sleep(0.1)
            assert time.monotonic() - killed < 30
        time.sleep(2)
        is_over.set()
        for one in clients:
            one.result()
    assert ends.count("done") > 4
    assert ends.count("error") <= 1, "a replica has one slot here"


def test_a_request_waits_for_replicas_that_have_all_died(server: Running) -> None:
    for one in replicas(server):
        one.kill()
    end, text = ask(server, max_tokens=6)
    assert end == "done"
    assert text.startswith("鲸吞鲸")


def test_vectors_come_from_replicas(server: Running) -> None:
    found = httpx.post(f"{server[1]}/v1/embeddings", json={"model": "m", "input": ["春", "秋"]}, timeout=60).json()
    norms = [float(np.linalg.norm(one["embedding"])) for one in found["data"]]
    assert np.allclose(norms, 1)


def test_a_model_that_no_replica_can_open_is_an_error(endless: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "m.gguf"
    damaged.write_bytes(endless.read_bytes().replace(b"blk.0.attn_q.weight", b"blk.0.attn_x.weight"))
    found = run_apart("serve", str(damaged), *ROOM, "--port", "0", "--replicas", "1", cwd=tmp_path)
    assert found.status == 2
    assert "llama.cpp" in found.err
    assert f"{damaged} on " in found.err, "the node is named"


def test_more_replicas_than_cpus_are_an_error(endless: Path, tmp_path: Path) -> None:
    found = run_apart("serve", str(endless), *ROOM, "--port", "0", "--replicas", "999", cwd=tmp_path)
    assert found.status == 2
    assert "999 replicas of 1 thread each do not fit" in found.err


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """The path of a socket may have 107 bytes, and Ray's begins with the folder."""
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        yield Path(folder)


def test_a_ray_that_runs_is_joined_and_left_running(endless: Path, tmp_path: Path, short_folder: Path) -> None:
    # Ray has its own way to start: a process that blocks, here without the token that `local` asks for.
    head = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus", "1", "--port", "0"]
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    ray = subprocess.Popen(
        [*head, "--include-dashboard", "false", "--temp-dir", str(short_folder)],
        env={**os.environ, **quiet}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        address = _address_of(short_folder, ray)
        words = (f"m={endless}", *ROOM, "--cluster", address)
        with serving(*words, cwd=tmp_path) as running:
            assert ask(running, max_tokens=6)[0] == "done"
            running[0].terminate()
            assert running[0].wait(60) == 0
        assert ray.poll() is None
        wrong = run_apart("serve", *words[:-1], "127.0.0.1:9", "--port", "0", cwd=tmp_path)
        assert "no Ray cluster answers" in wrong.err
    finally:
        # Its own way to stop takes half a minute.
        for one in [*psutil.Process(ray.pid).children(recursive=True), ray]:
            one.kill()
        ray.wait(60)


def _address_of(folder: Path, ray: subprocess.Popen[bytes]) -> str:
    file = folder / "ray_current_cluster"
    while not file.exists():
        assert ray.poll() is None, "Ray did not start"
        time.sleep(0.1)
    return file.read_text(encoding="utf-8").strip()
