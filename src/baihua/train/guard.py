"""Stop before a broken number spoils the weights, and leave out a step whose loss jumps."""

import math
import statistics
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import torch

from baihua.core.errors import RunError
from baihua.train.examples.batches import PackedBatch

NUM_REMEMBERED = 100
NUM_NEEDED = 20
# Six standard deviations never happen by chance; half as much again as usual keeps very even losses from alarming.
NUM_DEVIATIONS, LEAST_RATIO = 6.0, 1.5
MAX_SPIKES_IN_A_ROW = 3


def check_finite(what: str, value: float, number: int, batches: Sequence[PackedBatch]) -> None:
    """A RunError that names the rows when a loss or a gradient is no number any more."""
    if math.isfinite(value):
        return
    raise RunError(
        f"the {what} became {value} at step {number}; training stopped before it could spoil the weights",
        where=f"rows {name_rows(batches)}",
        fix="lower `learning_rate`, or look at these rows: baihua show DATA",
    )


def is_spike(loss: float, recent: Sequence[float]) -> bool:
    """Whether a step's loss is far above those of the steps before it."""
    if len(recent) < NUM_NEEDED:
        return False
    usual = statistics.fmean(recent)
    return loss > max(usual + NUM_DEVIATIONS * statistics.pstdev(recent), LEAST_RATIO * usual)


def check_spikes(num_in_a_row: int, loss: float, recent: Sequence[float], number: int) -> None:
    """A RunError when steps after each other jump: then it is not a row, the training itself has gone astray."""
    if num_in_a_row < MAX_SPIKES_IN_A_ROW:
        return
    raise RunError(
        f"the loss jumped in {num_in_a_row} steps after each other, to {loss:.3f} at step {number} where "
        f"{statistics.fmean(recent):.3f} was usual; training has gone astray",
        fix="lower `learning_rate`; the last checkpoint before it is kept",
    )


def name_rows(batches: Sequence[PackedBatch]) -> str:
    """The rows of batches, by id."""
    return ", ".join(row_id for batch in batches for row_id in batch.row_ids)


@contextmanager
def explained_memory(num_tokens_per_batch: int) -> Generator[None]:
    """Turn whatever a device says when its memory is full into a RunError that names the ways out."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            f"out of memory in a batch of up to {num_tokens_per_batch:,} tokens: {str(error).splitlines()[0][:200]}",
            fix="lower batches.num_tokens_per_batch (the result stays the same), set "
            "running.gradient_checkpointing=true, lower max_length, or take a method that needs less (lora, then "
            "qlora); then run the same command again",
        ) from error


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch says that memory is full; on a CPU it is a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
