"""Guards of a training: stop at NaN or infinite values, skip steps whose loss spikes, explain a lack of memory."""

import math
import statistics
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import torch

from baihua.core.errors import RunError
from baihua.train.examples.batches import PackedBatch

NUM_REMEMBERED, NUM_NEEDED = 100, 20
# Six standard deviations do not happen by chance; the ratio keeps very even losses from raising an alarm.
NUM_DEVIATIONS, LEAST_RATIO = 6.0, 1.5
MAX_CONSECUTIVE_SPIKES = 3


def check_finite(what: str, value: float, number: int, batches: Sequence[PackedBatch]) -> None:
    """A RunError that names the rows if a loss or gradient is NaN or infinite."""
    if not math.isfinite(value):
        raise RunError(
            f"the {what} became {value} at step {number}; training stopped before the weights were changed",
            where=f"rows {name_rows(batches)}",
            fix="lower `learning_rate`, or check these rows: baihua show DATA",
        )


def is_spike(loss: float, recent: Sequence[float]) -> bool:
    """Whether a step's loss is far above those of the steps before it."""
    if len(recent) < NUM_NEEDED:
        return False
    usual = statistics.fmean(recent)
    return loss > max(usual + NUM_DEVIATIONS * statistics.pstdev(recent), LEAST_RATIO * usual)


def check_spikes(num_consecutive: int, loss: float, recent: Sequence[float], number: int) -> None:
    """A RunError after several consecutive spikes: then the cause is not a row but the training itself."""
    if num_consecutive >= MAX_CONSECUTIVE_SPIKES:
        raise RunError(
            f"the loss spiked in {num_consecutive} consecutive steps, to {loss:.3f} at step {number} after a mean of "
            f"{statistics.fmean(recent):.3f}; training diverged",
            fix="lower `learning_rate`; the last checkpoint before the spikes is kept",
        )


def name_rows(batches: Sequence[PackedBatch]) -> str:
    """The ids of the rows in batches."""
    return ", ".join(row_id for batch in batches for row_id in batch.row_ids)


@contextmanager
def explained_memory(num_tokens_per_batch: int) -> Generator[None]:
    """Turn the error of a device whose memory is full into a RunError that names the ways out."""
    try:
        yield
    except RuntimeError as error:
        # On a CPU torch raises a plain RuntimeError.
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise RunError(
            f"out of memory in a batch of up to {num_tokens_per_batch:,} tokens: {str(error).splitlines()[0][:200]}",
            fix="lower batches.num_tokens_per_batch (the result stays the same), set "
            "running.gradient_checkpointing=true, lower max_length, or use a method that needs less (lora, then "
            "qlora); then run the same command again",
        ) from error
