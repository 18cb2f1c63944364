"""Rows become examples, examples become batches, in an order that is a function of seed and step alone.

B rows of a batch, T tokens of the longest, N targets of all rows.
"""

# ruff: noqa: N806, N815  (names of tensors end with their shape)

import functools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from baihua.core.errors import InputError
from baihua.data.rows import Row
from baihua.model.examples import Encoder, Example

# Rows are sorted by length inside windows of this many batches: padding falls from about 40 % of a
# batch to a few, while the order between windows stays random.
NUM_BATCHES_PER_WINDOW = 32
# Lengths are rounded up to a multiple: tensor cores want 8, and oneDNN builds kernels for each new length
# (a bfloat16 step of the tiny model: 30 ms the first time, 11 ms again). Price: 3.5 padding tokens a row.
LENGTH_MULTIPLE = 8
MAX_DROPPED_SHARE = 0.01

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Examples:
    """The rows that can be trained on, and what became of the others."""

    kept: list[Example]
    num_dropped: dict[str, int]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows padded on the right. No attention mask: a causal model never looks right, so no real token
    sees padding, and padding is no target."""

    row_ids: tuple[str, ...]
    input_ids_BT: torch.Tensor
    is_answered_BT: torch.Tensor
    """Positions whose next token is a target."""
    labels_N: torch.Tensor
    """Those next tokens, row by row."""
    num_tokens: int
    num_chars: int

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        tensors = (self.input_ids_BT.to(device), self.is_answered_BT.to(device), self.labels_N.to(device))
        return Batch(self.row_ids, *tensors, self.num_tokens, self.num_chars)


@dataclass(frozen=True, slots=True)
class Order:
    """How examples become steps; `process` of `num_processes` takes its share of each step's batches."""

    seed: int
    num_rows_per_batch: int
    num_batches_per_step: int = 1
    process: int = 0
    num_processes: int = 1


def make_examples(rows: Sequence[Row], encoder: Encoder, *, max_length: int) -> Examples:
    """Tokenise each row once; rows without a target are dropped and counted, more than 1 % is an error."""
    kept: list[Example] = []
    dropped: list[tuple[str, Row]] = []
    for row in rows:
        outcome = _make_example(row, encoder, max_length)
        if isinstance(outcome, Example):
            kept.append(outcome)
        else:
            dropped.append((outcome, row))
    reasons = Counter(reason for reason, _ in dropped)
    if not kept or len(dropped) > MAX_DROPPED_SHARE * len(rows):
        raise _nothing_to_learn(dropped, num_rows=len(rows), max_length=max_length)
    return Examples(kept, dict(sorted(reasons.items())))


def collate(examples: Sequence[Example]) -> Batch:
    """One batch of examples."""
    length = -(-max(len(example.ids_T) for example in examples) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
    input_ids_BT = torch.zeros(len(examples), length, dtype=torch.long)
    is_target_BT = torch.zeros(len(examples), length, dtype=torch.bool)
    for b, example in enumerate(examples):
        input_ids_BT[b, : len(example.ids_T)] = torch.from_numpy(example.ids_T)
        is_target_BT[b, : len(example.ids_T)] = torch.from_numpy(example.is_target_T)
    return Batch(
        row_ids=tuple(example.row_id for example in examples),
        input_ids_BT=input_ids_BT,
        # Position t predicts token t + 1; token 0 is never a target, so the roll wraps a False around.
        is_answered_BT=is_target_BT.roll(-1, dims=1),
        labels_N=input_ids_BT[is_target_BT],
        num_tokens=sum(len(example.ids_T) for example in examples),
        num_chars=sum(example.text.num_chars for example in examples),
    )


def num_steps_per_epoch(num_rows: int, order: Order) -> int:
    """Steps that one pass over the rows takes; the last one may be short."""
    num_batches = -(-num_rows // order.num_rows_per_batch)
    return -(-num_batches // (order.num_batches_per_step * order.num_processes))


def plan_epoch(lengths: Sequence[int], order: Order, *, epoch: int) -> list[list[list[int]]]:
    """Row numbers by step and batch, the same for every process: each row exactly once."""
    rng = random.Random(f"{order.seed}-{epoch}")
    rows = list(range(len(lengths)))
    rng.shuffle(rows)
    batches: list[list[int]] = []
    for window in _chunks(rows, order.num_rows_per_batch * NUM_BATCHES_PER_WINDOW):
        batches_here = _chunks(sorted(window, key=lambda row: lengths[row]), order.num_rows_per_batch)
        rng.shuffle(batches_here)
        batches += batches_here
    return _chunks(batches, order.num_batches_per_step * order.num_processes)


def iterate_steps(
    examples: Sequence[Example], order: Order, *, first_step: int, num_steps: int
) -> Iterator[list[Batch]]:
    """This process's batches of each step from `first_step` on, through as many epochs as it takes."""
    lengths = [len(example.ids_T) for example in examples]
    num_steps_each = num_steps_per_epoch(len(examples), order)
    epoch_plan = functools.lru_cache(maxsize=1)(lambda epoch: plan_epoch(lengths, order, epoch=epoch))
    for step in range(first_step, num_steps):
        batches = epoch_plan(step // num_steps_each)[step % num_steps_each]
        mine = [collate([examples[row] for row in rows]) for rows in batches[order.process :: order.num_processes]]
        # At the end of an epoch a process may be left without rows; it still has to meet the others.
        yield mine or [_without_targets(examples[0])]


def _make_example(row: Row, encoder: Encoder, max_length: int) -> Example | str:
    """The example, or the reason why there is none."""
    if not any(message.role == "assistant" for message in row.messages):
        return "no_answer"
    try:
        whole = encoder.encode(row.id, row.messages)
    except InputError as error:
        raise InputError(error.what, where=f"{row.file}:{row.line}", fix=error.fix) from error
    example = encoder.cut(whole, max_length)
    return example if example.is_target_T.any() else "prompt_too_long"


def _nothing_to_learn(dropped: list[tuple[str, Row]], *, num_rows: int, max_length: int) -> InputError:
    if not dropped:
        return InputError("there are no rows to train on", fix="look at what the filters dropped: baihua show PATH")
    reason, row = dropped[0]
    meaning = {
        "no_answer": "has no answer of the assistant",
        "prompt_too_long": f"has no answer within its first {max_length:,} tokens",
    }
    return InputError(
        f"{len(dropped):,} of {num_rows:,} rows have nothing to learn from; the first {meaning[reason]}",
        where=f"{row.file}:{row.line}",
        fix="raise `max_length`" if reason == "prompt_too_long" else "filter such rows out, or add their answers",
    )


def _without_targets(example: Example) -> Batch:
    batch = collate([example])
    nothing = torch.zeros_like(batch.is_answered_BT)
    return Batch((), batch.input_ids_BT, nothing, batch.labels_N[:0], num_tokens=0, num_chars=0)


def _chunks(items: list[Item], size: int) -> list[list[Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
