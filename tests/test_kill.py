"""`kill -9` at random moments of `baihua run`, then again: the adapter is the same as without."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tiny_recipe import write_recipe


def start(folder: Path, runs: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "baihua", "run", "tiny.yaml", "--until", "tune", "--runs", runs]
    with (folder / f"{runs}.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)


def adapter(folder: Path, runs: str) -> bytes:
    return (folder / runs / "tiny" / "tune" / "adapter_model.safetensors").read_bytes()


def wait_for(pattern: str, folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Until a file of that pattern is there, or the process has ended."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline and not any(folder.glob(pattern)):
        time.sleep(0.001)


def kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="kills process groups")
def test_killed_runs_end_with_the_same_adapter(tiny_folder: Path, tmp_path: Path) -> None:
    write_recipe(tmp_path, tiny_folder, num_steps=200, save_steps=5, method={"kind": "lora", "rank": 8, "dropout": 0.1})
    assert start(tmp_path, "whole").wait(timeout=120) == 0
    rng = random.Random(3)
    for pattern in ("checkpoints/checkpoint-*", "checkpoints/*.partial", "checkpoints/checkpoint-*"):
        process = start(tmp_path, "killed")
        wait_for(f"killed/store/tune-*.partial/{pattern}", tmp_path, process)
        time.sleep(0.0 if pattern.endswith(".partial") else rng.uniform(0.0, 0.3))
        kill(process)
        assert not any((tmp_path / "killed" / "store").glob("tune-*.partial/manifest.json"))
    assert start(tmp_path, "killed").wait(timeout=120) == 0
    assert adapter(tmp_path, "killed") == adapter(tmp_path, "whole")
    assert "resumed at step" in (tmp_path / "killed.log").read_text(encoding="utf-8")
