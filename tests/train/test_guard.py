"""Guards of a training: what stops it or skips a step, and the messages about it.

T tokens, V vocabulary.
"""

# ruff: noqa: N806  (names of tensors end with their shape)

import functools
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from conversations import encode_rows, make_rows
from documents import make_documents, make_model
from torch import nn
from trainings import Interrupted, KilledError, change, make_lora, make_plan, read_metrics

from baihua.core.errors import RunError
from baihua.model.examples import Example, TextSize
from baihua.train.checkpoint import Checkpoints
from baihua.train.examples.batches import PackedBatch, collate, plan_epoch
from baihua.train.guard import (
    LEAST_RATIO,
    MAX_CONSECUTIVE_SPIKES,
    NUM_NEEDED,
    check_finite,
    check_spikes,
    explained_memory,
    is_spike,
)
from baihua.train.loop import TrainingResult, open_accelerator, train
from baihua.train.step import StepResult, TrainingSession, take_step

EVEN = [2.0] * NUM_NEEDED
UNEVEN = [1.0, 3.0] * NUM_NEEDED


@pytest.mark.parametrize(
    ("loss", "recent", "wanted"),
    [
        (2.0, EVEN, False),
        (2.0 * LEAST_RATIO, EVEN, False),
        (2.0 * LEAST_RATIO + 0.01, EVEN, True),
        (7.9, UNEVEN, False),
        (8.1, UNEVEN, True),
        (0.0, UNEVEN, False),
        (100.0, EVEN[1:], False),
        (100.0, [], False),
    ],
)
def test_a_spike_is_six_deviations_and_half_as_much_again_after_twenty_steps(
    loss: float, recent: list[float], wanted: bool
) -> None:
    assert is_spike(loss, recent) == wanted


def test_three_consecutive_spikes_end_the_training() -> None:
    check_spikes(MAX_CONSECUTIVE_SPIKES - 1, 9.0, EVEN, 40)
    with pytest.raises(RunError) as error:
        check_spikes(MAX_CONSECUTIVE_SPIKES, 9.0, EVEN, 40)
    assert error.value.what == (
        "the loss spiked in 3 consecutive steps, to 9.000 at step 40 after a mean of 2.000; training diverged"
    )
    assert error.value.fix == "lower `learning_rate`; the last checkpoint before the spikes is kept"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_are_errors_that_name_the_rows(value: float) -> None:
    batches = [collate(make_documents([5, 6]))]
    check_finite("loss", 1.0, 3, batches)
    with pytest.raises(RunError) as error:
        check_finite("loss", value, 3, batches)
    assert error.value.what == f"the loss became {value} at step 3; training stopped before the weights were changed"
    assert error.value.where == "rows row-0, row-1"
    assert error.value.fix == "lower `learning_rate`, or check these rows: baihua show DATA"


def test_a_loss_that_is_not_a_number_stops_the_run(tiny_folder: Path, tmp_path: Path) -> None:
    model = make_lora(tiny_folder)
    with torch.no_grad():
        next(weight for weight in model.parameters() if weight.requires_grad).fill_(float("nan"))
    examples = encode_rows(tiny_folder, make_rows(9))
    with pytest.raises(RunError, match="the loss became nan at step 1") as error:
        train(model, examples, out=tmp_path, plan=make_plan())
    [first, *_] = plan_epoch([1] * 9, make_plan().config, epoch=0)
    named = error.value.where.removeprefix("rows ").split(", ")
    assert set(named) <= {examples[row].row_id for row in first}


class Fixed(nn.Module):
    """A loss that is the same for every batch, times its number of targets."""

    def __init__(self, loss_per_target: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([loss_per_target]))

    def forward(self, batch: PackedBatch) -> torch.Tensor:
        return self.weight.sum() * len(batch.labels_N)


class Exploding(nn.Module):
    """A finite loss with an infinite gradient: the square root at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4))

    def forward(self, batch: PackedBatch) -> torch.Tensor:
        return self.weight.sqrt().sum()


def take(loss_of: nn.Module, recent: list[float]) -> StepResult:
    """One step of two batches."""
    session = TrainingSession(
        make_plan(optimizer={"max_grad_norm": 1e9}),
        open_accelerator(),
        loss_of,
        trained=dict(loss_of.named_parameters()),
        optimizer=torch.optim.SGD(loss_of.parameters(), lr=0.1),
        checkpoints=Checkpoints(Path("never written"), run_id=""),
    )
    batches = [collate(make_documents([9])), collate(make_documents([7, 8], seed=5))]
    return take_step(session, batches, recent=recent, number=7)


def test_an_infinite_gradient_stops_the_run_before_the_weights_change() -> None:
    loss_of = Exploding()
    with pytest.raises(RunError, match="the gradient became inf at step 7") as error:
        take(loss_of, [])
    assert torch.equal(loss_of.weight, torch.zeros(4))
    assert "rows row-0, row-0, row-1" in str(error.value)


def test_a_spike_leaves_the_weights_unchanged(caplog: pytest.LogCaptureFixture) -> None:
    loss_of = Fixed(9.0)
    step = take(loss_of, EVEN)
    assert (step.is_skipped, step.loss) == (True, pytest.approx(9.0))
    assert loss_of.weight.item() == 9.0
    assert loss_of.weight.grad is None
    assert "the loss spiked to 9.000 at step 7, which is skipped; its worst batch has rows row-" in caplog.text


def test_an_ordinary_step_changes_them_without_a_message(caplog: pytest.LogCaptureFixture) -> None:
    loss_of = Fixed(2.5)
    step = take(loss_of, EVEN)
    # A gradient of 1 for each target, divided by their number.
    assert (step.is_skipped, step.grad_norm, loss_of.weight.item()) == (False, pytest.approx(1), pytest.approx(2.4))
    assert not caplog.text


def make_outspoken() -> nn.Module:
    """A model with strong opinions on the next token, so that texts can be easy or hard for it."""
    model = make_model()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(60)
    return model


@functools.cache
def continue_text(start: int, *, is_easy: bool) -> Example:
    """A text that always continues as such a model expects most, or least."""
    model, ids = make_outspoken(), [start]
    for _ in range(12):
        with torch.inference_mode():
            logits_V = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        ids.append(int(logits_V.argmax() if is_easy else logits_V.argmin()))
    is_target_T = np.arange(len(ids)) > 0
    return Example(f"row-{start}", np.array(ids, dtype=np.int32), is_target_T, TextSize(13, 13), TextSize(12, 12))


NUM_STEPS = 30


def train_with_hard_texts(
    hard_steps: list[int], out: Path, *, killed_after: int | None = None
) -> tuple[TrainingResult, list[str]]:
    """A training of one row a step, whose rows of some steps are hard; what came out, and the ids of these rows."""
    plan = make_plan(
        batches={"num_rows_per_step": 1}, schedule={"warmup_ratio": 0}, num_steps=NUM_STEPS, learning_rate=1e-6
    )
    plan = change(plan, checkpoints={"save_steps": killed_after or 10})
    rows = [row for [row] in plan_epoch([1] * NUM_STEPS, plan.config, epoch=0)]
    hard = [rows[step - 1] for step in hard_steps]
    examples = [continue_text(row, is_easy=row not in hard) for row in range(NUM_STEPS)]
    if killed_after:
        dying = Interrupted(examples, 2 * killed_after + 1)
        with pytest.raises(KilledError):
            train(make_outspoken(), dying, out=out, plan=plan)
    outcome = train(make_outspoken(), examples, out=out, plan=plan)
    return outcome, [f"row-{row}" for row in hard]


def test_steps_that_spike_are_skipped_named_and_marked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outcome, hard = train_with_hard_texts([24, 26, 27], tmp_path)
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines if line.get("is_skipped")] == [24, 26, 27]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [warning.rpartition(" ")[2] for warning in warnings] == hard
    assert outcome.figures["num_steps"] == NUM_STEPS


def test_a_hard_row_at_the_very_start_is_learnt(tmp_path: Path) -> None:
    train_with_hard_texts([2], tmp_path)
    assert not any("is_skipped" in line for line in read_metrics(tmp_path))


def test_a_training_that_keeps_spiking_stops(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the loss spiked in 3 consecutive steps") as error:
        train_with_hard_texts([25, 26, 27], tmp_path)
    assert "at step 27" in error.value.what
    assert (tmp_path / "checkpoints" / "checkpoint-20").is_dir()


def test_spikes_before_and_after_an_interruption_are_counted_together(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the loss spiked in 3 consecutive steps"):
        train_with_hard_texts([25, 26, 27], tmp_path, killed_after=26)
    skipped = [line["step"] for line in read_metrics(tmp_path) if line.get("is_skipped")]
    assert skipped == [25, 26, 27]


FIX = (
    "lower batches.num_tokens_per_batch (the result stays the same), set running.gradient_checkpointing=true, "
    "lower max_length, or use a method that needs less (lora, then qlora); then run the same command again"
)


def test_a_cpu_without_memory_is_explained() -> None:
    message = r"out of memory in a batch of up to 2,048 tokens: .*allocate memory"
    with pytest.raises(RunError, match=message) as error, explained_memory(2048):
        torch.empty(2**50)
    assert error.value.fix == FIX
    assert "\n" not in error.value.what


def test_a_gpu_without_memory_is_explained() -> None:
    message = "out of memory in a batch of up to 99 tokens: CUDA out of memory"
    with pytest.raises(RunError, match=message) as error, explained_memory(99):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
    assert error.value.fix == FIX


def test_other_errors_of_torch_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="size of tensor") as error, explained_memory(99):
        torch.zeros(2) + torch.zeros(3)
    assert not isinstance(error.value, RunError)
