"""`baihua run` is killed and asked to stop, then run again: the adapter is the same as without."""

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_recipe import write_recipe

from baihua.cli.main import main

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills process groups")
PARTIAL = "store/tune-*.partial"


@dataclass(frozen=True, slots=True)
class Run:
    """One recipe, run into a folder as often as a test likes."""

    recipe: Path
    name: str

    @property
    def folder(self) -> Path:
        return self.recipe.parent / self.name

    @property
    def log(self) -> str:
        return self.folder.with_suffix(".log").read_text(encoding="utf-8")

    @property
    def adapter(self) -> bytes:
        return (self.folder / "tiny" / "tune" / "adapter_model.safetensors").read_bytes()

    def words(self, last: str) -> list[str]:
        """The command line that runs the recipe until a stage."""
        return ["run", str(self.recipe), "--until", last, "--runs", str(self.folder)]

    def finish(self, last: str = "tune") -> None:
        """Run in this process, which has loaded torch already."""
        with pytest.raises(SystemExit) as stopped:
            main(self.words(last))
        assert not stopped.value.code

    def start(self) -> subprocess.Popen[bytes]:
        """A process of its own, in a group of its own."""
        with self.folder.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "baihua", *self.words("tune")],
                cwd=self.recipe.parent,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_until(self, pattern: str) -> subprocess.Popen[bytes]:
        """The same, and wait until a file of that pattern is there."""
        process, deadline = self.start(), time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline and not any(self.folder.glob(pattern)):
            time.sleep(0.003)
        return process

    def saved(self) -> list[int]:
        """The steps of the checkpoints that are there."""
        return sorted(
            int(path.name.partition("-")[2]) for path in self.folder.glob(f"{PARTIAL}/checkpoints/checkpoint-*[0-9]")
        )


def kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass(frozen=True, slots=True)
class Story:
    """A run without a break, and one that was killed twice, asked to stop once, and then left alone."""

    whole: Run
    broken: Run
    num_manifests: int
    status: int
    steps_when_stopped: list[int]
    last_messages: str
    """Of the run that finished."""


@pytest.fixture(scope="module")
def story(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("kill")
    method = {"kind": "lora", "rank": 8, "dropout": 0.1}
    recipe = write_recipe(folder, tiny_folder, num_steps=60, checkpoints={"save_steps": 7}, method=method)
    whole, broken = Run(recipe, "whole"), Run(recipe, "broken")
    whole.finish()
    broken.finish("parts")
    kill(broken.start_until(f"{PARTIAL}/checkpoints/*.partial"))
    process = broken.start_until(f"{PARTIAL}/checkpoints/checkpoint-*[0-9]")
    time.sleep(random.Random(3).uniform(0.0, 0.3))
    kill(process)
    manifests = list(broken.folder.glob(f"{PARTIAL}/manifest.json"))
    num_lines = len(broken.log.splitlines())
    process = broken.start()
    while process.poll() is None and "resumed at step" not in "".join(broken.log.splitlines()[num_lines:]):
        time.sleep(0.003)
    process.send_signal(signal.SIGTERM)
    status, steps = process.wait(timeout=60), broken.saved()
    messages = io.StringIO()
    with contextlib.redirect_stderr(messages):
        broken.finish()
    return Story(whole, broken, len(manifests), status, steps, messages.getvalue())


def test_the_adapter_is_the_same_whatever_happened_on_the_way(story: Story) -> None:
    assert story.broken.adapter == story.whole.adapter


def test_a_killed_stage_never_counts_as_done(story: Story) -> None:
    assert story.num_manifests == 0


def test_sigterm_saves_the_step_it_came_in_and_leaves_with_130(story: Story) -> None:
    assert story.status == 130
    log = " ".join(story.broken.log.split())
    assert "stopping after this step; progress will be saved" in log
    assert "interrupted; run the same command again to resume" in log
    assert "Traceback" not in log
    assert f"resumed at step {story.steps_when_stopped[-1]} " in " ".join(story.last_messages.split())
