"""Several processes train one model: the same mathematics as one, one clear error when one of them dies."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from cli_runs import run_apart
from safetensors.torch import load_file
from tiny_recipe import write_recipe

from baihua.core.errors import InputError, RunError
from baihua.model.load import load_model
from baihua.train import parallel
from baihua.train.loop import open_accelerator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gloo between processes was not tried on Windows")

FULL: dict[str, Any] = {"method": {"kind": "full"}, "learning_rate": 1e-3, "batches": {"num_rows_per_step": 7}}


def build(folder: Path, model: Path, runs: str, *words: str, **tune: Any) -> None:
    write_recipe(folder, model, num_steps=6, **tune)
    found = run_apart("run", "tiny.yaml", "--until", "tune", "--runs", runs, *words, cwd=folder)
    assert found.status == 0, found.err


def weights(folder: Path, runs: str) -> dict[str, torch.Tensor]:
    file = next((folder / runs / "tiny" / "tune").glob("*model*.safetensors"))
    return load_file(file)


def figures(folder: Path, runs: str) -> dict[str, Any]:
    manifest = folder / runs / "tiny" / "tune" / "manifest.json"
    return json.loads(manifest.read_text(encoding="utf-8"))["metrics"]


def start(folder: Path, runs: str) -> "subprocess.Popen[bytes]":
    """A long training on two processes; returns once it has a checkpoint."""
    write_recipe(folder, tiny.make(folder / "model"), num_steps=3000, checkpoints={"save_steps": 5}, **FULL)
    words = ("run", "tiny.yaml", "--until", "tune", "--runs", runs, "--processes", "2")
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "baihua", *words], cwd=folder, stdout=log, stderr=log)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not any(folder.glob(f"{runs}/store/tune-*/checkpoints/checkpoint-*5")):
        assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
        time.sleep(0.05)
    return process


def children(process: "subprocess.Popen[bytes]") -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(process.pid).children()]


@pytest.mark.extras
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_end_with_the_weights_of_one(tiny_folder: Path, tmp_path: Path, kind: str) -> None:
    build(tmp_path, tiny_folder, "one", **FULL)
    build(tmp_path, tiny_folder, "two", "--processes", "2", running={"parallel": kind}, **FULL)
    wanted, found = weights(tmp_path, "one"), weights(tmp_path, "two")
    assert wanted.keys() == found.keys()
    for name, weight in wanted.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-5, atol=1e-5)
    one, two = figures(tmp_path, "one"), figures(tmp_path, "two")
    assert (one["num_processes"], two["num_processes"]) == (1, 2)
    assert one["num_target_tokens"] == two["num_target_tokens"]
    assert two["eval_bits_per_char"] == pytest.approx(one["eval_bits_per_char"], rel=1e-4)


@pytest.mark.extras
def test_an_adapter_of_shards_is_whole_in_the_end(tiny_folder: Path, tmp_path: Path) -> None:
    lora = {"method": {"kind": "lora", "rank": 4}, "learning_rate": 1e-3, "batches": {"num_rows_per_step": 8}}
    build(tmp_path, tiny_folder, "one", **lora)
    build(tmp_path, tiny_folder, "two", "--processes", "2", running={"parallel": "fsdp"}, **lora)
    for name, weight in weights(tmp_path, "one").items():
        torch.testing.assert_close(weights(tmp_path, "two")[name], weight, rtol=1e-4, atol=1e-5)


SHARDS = """
import sys
from pathlib import Path
from torch.distributed.tensor import DTensor
from baihua.model.load import load_model
from baihua.train import parallel
from baihua.train.layers.attention import use_document_attention
from baihua.train.loop import open_accelerator
from baihua.train.layers.loss import TargetLoss
accelerator = open_accelerator()
model = load_model(Path(sys.argv[1]))
use_document_attention(model)
loss_of = TargetLoss(model, precision="float32")
parallel.distribute(loss_of, model.model.layers, kind="fsdp", accelerator=accelerator, precision="float32")
parameters = dict(model.named_parameters())
assert all(isinstance(parameter, DTensor) for parameter in parameters.values())
held = sum(parallel.local(parameter).numel() for parameter in parameters.values())
print(held, sum(parameter.numel() for parameter in parameters.values()))
"""


@pytest.mark.extras
def test_each_process_holds_half_of_every_weight(tiny_folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "shards.py"
    script.write_text(SHARDS, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    found = subprocess.run([*command, str(tiny_folder)], capture_output=True, text=True, check=True, timeout=180)
    lines = [line.split() for line in found.stdout.splitlines() if line.strip()]
    assert len(lines) == 2
    assert all(2 * int(held) == int(whole) for held, whole in lines)


@pytest.mark.extras
def test_torchrun_starts_a_recipe_as_well(tiny_folder: Path, tmp_path: Path) -> None:
    build(tmp_path, tiny_folder, "one", **FULL)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "baihua"]
    words = ["run", "tiny.yaml", "--until", "tune", "--runs", "two"]
    subprocess.run([*command, *words], cwd=tmp_path, check=True, timeout=180, capture_output=True)
    assert figures(tmp_path, "two")["num_processes"] == 2
    for name, weight in weights(tmp_path, "one").items():
        torch.testing.assert_close(weights(tmp_path, "two")[name], weight, rtol=1e-5, atol=1e-5)


@pytest.mark.extras
@pytest.mark.parametrize("number", [0, 1])
def test_a_process_that_is_killed_ends_the_run_with_one_error(tmp_path: Path, number: int) -> None:
    process = start(tmp_path, "runs")
    os.kill(children(process)[number], signal.SIGKILL)
    assert process.wait(timeout=60) == 1
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert log.count("error: ") == 1
    assert f"process {number} of 2 was ended by signal 9 (SIGKILL)" in log
    assert "training resumes from its last checkpoint" in log
    assert "Traceback" not in log


@pytest.mark.extras
def test_all_processes_stop_together_and_save(tmp_path: Path) -> None:
    process = start(tmp_path, "runs")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 130
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert log.count("interrupted; run the same command again to resume") == 1
    steps = [json.loads(line)["step"] for line in next(tmp_path.rglob("metrics.jsonl")).read_text().splitlines()]
    newest = max(int(path.name.rpartition("-")[2]) for path in tmp_path.rglob("checkpoint-*"))
    assert newest == steps[-1]


@pytest.mark.extras
def test_what_is_wrong_is_said_once(tiny_folder: Path, tmp_path: Path) -> None:
    write_recipe(tmp_path, tiny_folder, max_length=8)
    found = run_apart("run", "tiny.yaml", "--runs", "runs", "--processes", "2", cwd=tmp_path)
    assert found.status == 2
    assert "have no tokens to train" in found.errors()[0]


def test_one_process_cannot_hold_shards(tiny_folder: Path) -> None:
    model = load_model(tiny_folder)
    with pytest.raises(InputError) as error:
        parallel.distribute(model, model.model.layers, kind="fsdp", accelerator=open_accelerator(), precision="float32")
    assert error.value.what == "parallel=fsdp needs several processes, there is one"
    assert "--processes N" in error.value.fix


def test_weights_of_few_bits_cannot_be_held_in_shards() -> None:
    model = torch.nn.Module()
    model.weight = torch.nn.Parameter(torch.zeros(4, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(InputError) as error:
        parallel.distribute(
            model, torch.nn.ModuleList(), kind="fsdp", accelerator=open_accelerator(), precision="float32"
        )
    assert error.value.what == "weights of 8 or 4 bits cannot be held in shards"
    assert error.value.fix == "use method lora, or running.parallel=ddp"


def test_what_was_asked_for_and_not_set_up_is_told(tiny_folder: Path) -> None:
    model = load_model(tiny_folder)
    lonely: Any = SimpleNamespace(num_processes=2, device=torch.device("cpu"), prepare=lambda module: module)
    with pytest.raises(RunError, match="DDP was asked for but not set up; training would have run on one process's"):
        parallel.distribute(model, model.model.layers, kind="ddp", accelerator=lonely, precision="float32")


def test_processes_that_did_not_join_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "expected_processes", lambda: 2)
    with pytest.raises(RunError, match="2 processes were started, but they did not join: this one sees 1"):
        parallel.JoinedProcesses()
