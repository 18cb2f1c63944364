"""A checkpoint is whole or it is not used."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from baihua.train.checkpoint import Checkpoints, Progress


def make_run(steps: int = 3) -> tuple[dict[str, nn.Parameter], torch.optim.Optimizer]:
    torch.manual_seed(0)
    weights = {"a": nn.Parameter(torch.randn(3, 2)), "b": nn.Parameter(torch.randn(2))}
    optimizer = torch.optim.AdamW(weights.values(), lr=0.1)
    for _ in range(steps):
        torch.stack([(weight**2).sum() for weight in weights.values()]).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return weights, optimizer


def save_two(folder: Path) -> Checkpoints:
    checkpoints = Checkpoints(folder, run_id="run")
    for step in (1, 2):
        checkpoints.save(Progress(step=step, num_tokens=step * 10), *make_run(step))
    return checkpoints


def test_weights_optimizer_and_figures_come_back_exactly(tmp_path: Path) -> None:
    weights, optimizer = make_run()
    checkpoints = Checkpoints(tmp_path, run_id="run")
    saved = Progress(step=3, num_tokens=7, num_target_tokens=5, num_chars=4, seconds=1.5)
    checkpoints.save(saved, weights, optimizer)
    others, other_optimizer = make_run(0)
    assert checkpoints.restore(others, other_optimizer) == saved
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    wanted, found = optimizer.state_dict()["state"], other_optimizer.state_dict()["state"]
    assert all(torch.equal(wanted[i][name], found[i][name]) for i in wanted for name in wanted[i])


def test_nothing_to_restore_is_a_fresh_start(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none", run_id="run").restore(*make_run()) == Progress()


def test_only_the_last_two_are_kept(tmp_path: Path) -> None:
    checkpoints = save_two(tmp_path)
    checkpoints.save(Progress(step=10), *make_run())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-2"]


def test_nothing_in_it_is_pickled(tmp_path: Path) -> None:
    save_two(tmp_path)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".safetensors", ".json"}


def truncate(folder: Path) -> None:
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-3])


def flip_a_bit(folder: Path) -> None:
    file = folder / "optimizer.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def empty_the_state(folder: Path) -> None:
    (folder / "state.json").write_text("{}")


def halve_the_state(folder: Path) -> None:
    (folder / "state.json").write_text('{"run_')


def lose_a_file(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty_the_state, halve_the_state, lose_a_file])
def test_a_damaged_one_is_passed_over_with_a_warning(tmp_path: Path, damage, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints = save_two(tmp_path)
    damage(tmp_path / "checkpoint-2")
    assert checkpoints.restore(*make_run(0)) == Progress(step=1, num_tokens=10)
    assert "checkpoint-2 is damaged; using the one before it" in caplog.text
    checkpoints.save(Progress(step=2, num_tokens=20), *make_run(2))
    assert checkpoints.restore(*make_run(0)).num_tokens == 20


def test_a_half_written_one_is_never_looked_at(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints = save_two(tmp_path)
    shutil.copytree(tmp_path / "checkpoint-2", tmp_path / "checkpoint-3.partial")
    assert checkpoints.restore(*make_run(0)).step == 2
    assert not caplog.text


def test_another_runs_checkpoint_is_ignored_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_two(tmp_path)
    assert Checkpoints(tmp_path, run_id="other").restore(*make_run(0)) == Progress()
    assert "belongs to a run with other settings or data" in caplog.text


def test_another_number_of_threads_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints = save_two(tmp_path)
    file = tmp_path / "checkpoint-2" / "state.json"
    state = json.loads(file.read_text())
    state["machine"] |= {"num_threads": 99, "device": "cuda"}
    file.write_text(json.dumps(state))
    checkpoints.restore(*make_run(0))
    assert "num_threads was 99" in caplog.text
    assert "device was cuda, is cpu" in caplog.text
