"""A run that was broken off ends with the same bits as one that was not."""

import os
import random
import signal
import sys
from pathlib import Path

import pytest
import torch
from conversations import encode_rows, make_rows
from documents import make_documents
from trainings import Interrupted, KilledError, change, is_equal, make_lora, make_plan, read_metrics

from baihua.core.errors import RunError
from baihua.model.examples import Example
from baihua.train.checkpoint import STATE
from baihua.train.loop import CHECKPOINTS, train

NUM_STEPS = 12
# Steps of 4, 4 and 1 rows, each read twice: the 20th read is in step 4.
NUM_ROWS = 9
RUN = make_plan(num_steps=NUM_STEPS)
VARIANTS = {
    "float32": RUN,
    "bfloat16": change(RUN, precision="bfloat16"),
    "by tokens": change(RUN, batches={"num_tokens_per_step": 230}),
    "keep the best": change(
        RUN, checkpoints={"eval_steps": 2, "keep_best": True}, learning_rate=0.1, schedule={"kind": "constant"}
    ),
}


@pytest.fixture(scope="module")
def examples(tiny_folder: Path) -> list[Example]:
    return encode_rows(tiny_folder, make_rows(NUM_ROWS))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_killed_at_five_random_steps_ends_with_the_same_bits(
    name: str, tiny_folder: Path, examples: list[Example], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    plan = VARIANTS[name]
    heldout = make_documents([20, 30], seed=9) if plan.config.checkpoints.keep_best else []
    wanted = train(make_lora(tiny_folder), examples, heldout=heldout, out=tmp_path / "a", plan=plan)
    rng = random.Random(name)
    saving, num_kills = change(plan, checkpoints={"save_steps": 1}), 0
    while num_kills < 5:
        dying = Interrupted(examples, rng.randint(9, 14))
        with pytest.raises(KilledError):
            train(
                *(make_lora(tiny_folder), dying),
                **{"heldout": heldout, "out": tmp_path / "b", "plan": saving},
            )
        num_kills += 1
        # Whatever random state a process happens to start with.
        torch.manual_seed(rng.randint(0, 99))
    found = train(make_lora(tiny_folder), examples, heldout=heldout, out=tmp_path / "b", plan=plan)
    resumed = [int(record.args[0]) for record in caplog.records if record.msg == "resumed at step %d"]
    assert len(resumed) == 5
    assert 0 < resumed[0] < resumed[-1] < NUM_STEPS
    assert is_equal(found.state, wanted.state)
    lines, others = read_metrics(tmp_path / "b"), read_metrics(tmp_path / "a")
    assert [strip(line) for line in lines] == [strip(line) for line in others]
    assert found.figures["num_tokens"] == wanted.figures["num_tokens"]


def strip(line: dict) -> dict:
    """A line without what depends on time."""
    return {name: value for name, value in line.items() if "per_second" not in name}


def break_off(folder: Path, examples: list[Example], out: Path, *, num_steps: int) -> None:
    """A training that was killed after so many steps, which it had saved."""
    # Each row is read twice a step.
    dying = Interrupted(examples, 2 * 4 * num_steps + 1)
    with pytest.raises(KilledError):
        train(make_lora(folder), dying, out=out, plan=make_plan(checkpoints={"save_steps": 1}))


def test_a_run_goes_on_with_batches_of_another_size(
    tiny_folder: Path, examples: list[Example], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    models = [make_lora(tiny_folder, dropout=0.0) for _ in range(3)]
    wanted = train(models[0], examples, out=tmp_path / "a", plan=make_plan()).state
    dying = Interrupted(examples, 20)
    with pytest.raises(KilledError):
        train(models[1], dying, out=tmp_path / "b", plan=make_plan(checkpoints={"save_steps": 1}))
    plan = make_plan(num_tokens_per_batch=1000, checkpoints={"save_steps": 3})
    found = train(models[2], examples, out=tmp_path / "b", plan=plan).state
    assert "resumed at step 3" in caplog.text
    for name, weight in wanted.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 1e-3},
        {"seed": 2},
        {"num_steps": 9},
        {"precision": "bfloat16"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_settings_start_afresh(
    tiny_folder: Path, examples: list[Example], tmp_path: Path, changes: dict, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    break_off(tiny_folder, examples, tmp_path, num_steps=2)
    train(make_lora(tiny_folder), examples, out=tmp_path, plan=make_plan(**changes))
    assert "belongs to a run with other settings or data; ignoring it" in caplog.text
    assert "resumed" not in caplog.text


def test_a_damaged_checkpoint_costs_one_step_and_no_bit(
    tiny_folder: Path, examples: list[Example], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    wanted = train(make_lora(tiny_folder), examples, out=tmp_path / "a", plan=make_plan()).state
    break_off(tiny_folder, examples, tmp_path / "b", num_steps=4)
    (tmp_path / "b" / CHECKPOINTS / "checkpoint-4" / STATE).write_text("{")
    found = train(make_lora(tiny_folder), examples, out=tmp_path / "b", plan=make_plan()).state
    assert "checkpoint-4 is corrupt; using the one before it" in caplog.text
    assert "resumed at step 3" in caplog.text
    assert is_equal(found, wanted)


def test_a_finished_run_that_lost_its_result_trains_nothing_again(
    tiny_folder: Path, examples: list[Example], tmp_path: Path
) -> None:
    wanted = train(make_lora(tiny_folder), examples, out=tmp_path, plan=make_plan())
    untouched = Interrupted(examples, 1)
    found = train(make_lora(tiny_folder), untouched, out=tmp_path, plan=make_plan())
    assert is_equal(found.state, wanted.state)
    assert found.figures == wanted.figures
    assert [line["step"] for line in read_metrics(tmp_path)] == list(range(1, 9))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_stop_finishes_its_step_saves_and_goes_on_later(
    tiny_folder: Path, examples: list[Example], tmp_path: Path, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    wanted = train(make_lora(tiny_folder), examples, out=tmp_path / "a", plan=make_plan()).state
    asked = Interrupted(examples, 20, lambda: os.kill(os.getpid(), number))
    with pytest.raises(KeyboardInterrupt):
        train(make_lora(tiny_folder), asked, out=tmp_path / "b", plan=make_plan())
    assert [path.name for path in (tmp_path / "b" / CHECKPOINTS).iterdir()] == ["checkpoint-4"]
    assert "stopping after this step; progress will be saved" in caplog.text
    found = train(make_lora(tiny_folder), examples, out=tmp_path / "b", plan=make_plan()).state
    assert "resumed at step 4" in caplog.text
    assert is_equal(found, wanted)


def test_a_step_that_breaks_keeps_the_checkpoint_before_it(
    tiny_folder: Path, examples: list[Example], tmp_path: Path
) -> None:
    model = make_lora(tiny_folder)

    def poison() -> None:
        with torch.no_grad():
            next(weight for weight in model.parameters() if weight.requires_grad).fill_(float("nan"))

    breaking = Interrupted(examples, 20, poison)
    with pytest.raises(RunError, match="the loss became nan at step 4"):
        train(model, breaking, out=tmp_path, plan=make_plan(checkpoints={"save_steps": 1}))
    assert sorted(path.name for path in (tmp_path / CHECKPOINTS).iterdir()) == ["checkpoint-2", "checkpoint-3"]
