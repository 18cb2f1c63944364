"""A checkpoint is whole or it is not used."""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from baihua.core.errors import RunError
from baihua.train.checkpoint import Checkpoints, Progress, check_space, write_verified
from baihua.train.config import OptimizerSettings, TrainingConfig
from baihua.train.step import make_optimizer


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
    saved = Progress(
        step=3,
        num_tokens=7,
        num_target_tokens=5,
        num_chars=4,
        seconds=1.5,
        recent=(0.1, 1 / 3),
        num_spikes=1,
        best_step=2,
        best_bits_per_char=math.pi,
    )
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
    assert "checkpoint-2 is corrupt; using the one before it" in caplog.text
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


KINDS = ("adamw", "adamw_8bit")


@pytest.mark.parametrize("kind", KINDS)
def test_an_optimizer_that_was_restored_goes_on_with_the_same_bits(kind, tmp_path: Path) -> None:
    if kind == "adamw_8bit":
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install 'baihua[gpu]'")
    checkpoints = Checkpoints(tmp_path, run_id="run")
    weights, optimizer = make_large(kind)
    take_steps(weights, optimizer, range(3))
    checkpoints.save(Progress(step=3), weights, optimizer)
    others, other_optimizer = make_large(kind)
    assert checkpoints.restore(others, other_optimizer).step == 3
    assert bits_of(other_optimizer.state_dict()["state"]) == bits_of(optimizer.state_dict()["state"])
    for each, its_optimizer in ((weights, optimizer), (others, other_optimizer)):
        take_steps(each, its_optimizer, range(3, 6))
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert {group["rate_factor"] for group in other_optimizer.param_groups} == {1.0, 16.0}


def make_large(kind) -> tuple[dict[str, nn.Parameter], torch.optim.Optimizer]:
    """Weights of which some are large enough to be held in 8 bits."""
    generator = torch.Generator().manual_seed(0)
    weights = {
        "a": nn.Parameter(torch.randn(80, 80, generator=generator)),
        "b": nn.Parameter(torch.randn(5, generator=generator)),
    }
    config = TrainingConfig(learning_rate=0.01, optimizer=OptimizerSettings(kind=kind, weight_decay=0.1))
    return weights, make_optimizer(weights, config, {"a": 1.0, "b": 16.0}.__getitem__)


def take_steps(weights: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, numbers: range) -> None:
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        for weight in weights.values():
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()


def bits_of(state: object) -> object:
    """A state with tensors as their bytes and types."""
    if isinstance(state, Mapping):
        return {key: bits_of(value) for key, value in state.items()}
    if isinstance(state, torch.Tensor):
        return state.dtype, state.shape, state.reshape(-1).view(torch.uint8).tolist()
    return state


class Waiting:
    """A way to wait for others that ends the process at its n-th call."""

    def __init__(self, num_calls: int) -> None:
        self.num_calls = num_calls

    def __call__(self) -> None:
        self.num_calls -= 1
        if self.num_calls == 0:
            raise InterruptedError("stands for a kill")


@pytest.mark.parametrize("moment", [1, 2])
def test_older_ones_stay_until_the_new_one_is_whole(tmp_path: Path, moment: int) -> None:
    save_two(tmp_path)
    dying = Checkpoints(tmp_path, run_id="run", wait=Waiting(moment))
    with pytest.raises(InterruptedError):
        dying.save(Progress(step=3), *make_run())
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint-1", "checkpoint-2", "checkpoint-3.partial"]
    assert Checkpoints(tmp_path, run_id="run").restore(*make_run(0)).step == 2
    Checkpoints(tmp_path, run_id="run").save(Progress(step=3), *make_run())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-3"]


class Changing(Mapping[str, torch.Tensor]):
    """Tensors of which one is another when it is looked at again, as if the disk had written something else."""

    def __init__(self, *values: float) -> None:
        self.values_left = list(values)

    def __getitem__(self, name: str) -> torch.Tensor:
        return torch.tensor([self.values_left.pop(0)])

    def __iter__(self) -> Iterator[str]:
        yield "a"

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize("values", [(1.0, 1.0000001), (0.0, -0.0)])
def test_what_reads_back_with_another_bit_is_refused(tmp_path: Path, values: tuple[float, float]) -> None:
    file = tmp_path / "weights.safetensors"
    with pytest.raises(RunError) as error:
        write_verified(file, Changing(*values))
    assert error.value.what == (
        "1 tensors of a checkpoint differ from what was saved after reading them back, the first is 'a'"
    )
    assert (error.value.where, error.value.fix) == (
        str(file),
        "check the disk; the checkpoint before it is kept",
    )


def test_what_is_no_number_reads_back_as_it_is(tmp_path: Path) -> None:
    write_verified(tmp_path / "weights.safetensors", {"a": torch.tensor([math.nan, math.inf])})


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    check_space(tmp_path / "not" / "yet", 1)
    with pytest.raises(
        RunError, match=r"the disk has [\d,]+ bytes left, a checkpoint needs 1,125,899,906,842,624"
    ) as error:
        check_space(tmp_path, 2**50)
    assert error.value.where == str(tmp_path)
    assert error.value.fix == ("free some space and run the same command again: it continues from the last checkpoint")


def test_only_the_best_is_kept_and_comes_back(tmp_path: Path) -> None:
    checkpoints = save_two(tmp_path)
    for step in (1, 2):
        checkpoints.save_best(step, make_run(step)[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-2", "checkpoint-1", "checkpoint-2"]
    weights, wanted = make_run(0)[0], make_run(2)[0]
    assert checkpoints.restore_best(2, weights)
    assert all(torch.equal(weights[name], wanted[name]) for name in wanted)


def test_a_damaged_best_leaves_the_weights_alone_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path, run_id="run")
    checkpoints.save_best(2, make_run(2)[0])
    truncate(tmp_path / "best-2")
    weights, wanted = make_run(0)[0], make_run(0)[0]
    assert not checkpoints.restore_best(2, weights)
    assert all(torch.equal(weights[name], wanted[name]) for name in wanted)
    assert "best-2 is corrupt" in caplog.text


def test_shards_of_two_processes_are_one_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = (Checkpoints(tmp_path, "run", process, 2, is_sharded=True) for process in (0, 1))
    # One after the other here: the second writes while the first waits for it.
    runs = [make_run(1), make_run(2)]
    waits: Iterator[Callable[[], None]] = iter(
        [lambda: second.save(Progress(step=5), *runs[1]), lambda: None, lambda: None]
    )
    replace(first, wait=lambda: next(waits)()).save(Progress(step=5), *runs[0])
    for checkpoints, (wanted, _) in zip((first, second), runs, strict=True):
        weights, optimizer = make_run(0)
        assert checkpoints.restore(weights, optimizer).step == 5
        assert all(torch.equal(weights[name], wanted[name]) for name in wanted)
    assert Checkpoints(tmp_path, run_id="run").restore(*make_run(0)) == Progress()
    assert "has shards of another number of processes; ignoring it" in caplog.text
