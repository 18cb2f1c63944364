"""Steps and packed batches of examples, in an order that is a function of seed and epoch alone.

A step is a set of examples; how they are packed into batches, and which process reads which, changes nothing but
the last bits of the result, since every target token of a step has the same weight.

T tokens of a batch, N targets.
"""

# ruff: noqa: N806, N815  (names of tensors end with their shape)

import bisect
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from baihua.model.examples import Example
from baihua.train.config import TrainingConfig

# Lengths of batches are rounded up to a multiple: tensor cores want 8, and oneDNN builds kernels for each new length.
# Price: 32 tokens a batch on average, 1.6 % of 2,048.
LENGTH_MULTIPLE = 64


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Documents end to end in one row; attention stays inside each (see `attention`), and positions restart."""

    row_ids: tuple[str, ...]
    ids_T: Tensor
    positions_T: Tensor
    ends: Tensor
    """Where documents end, int32, beginning with 0; padding at the end is one more document."""
    longest: int
    """Tokens of the longest document."""
    answered_N: Tensor
    """Positions whose next token is a target."""
    labels_N: Tensor
    """Those next tokens."""
    num_tokens: int
    """Without padding."""
    num_chars: int


def collate(examples: Sequence[Example], device: torch.device | None = None) -> PackedBatch:
    """One batch of examples, end to end, on a device (by default the CPU)."""
    lengths = [len(example.ids_T) for example in examples]
    num_tokens = sum(lengths)
    num_padding = -num_tokens % LENGTH_MULTIPLE
    documents = [*lengths, num_padding] if num_padding else lengths
    ids_T = np.zeros(num_tokens + num_padding, dtype=np.int64)
    ids_T[:num_tokens] = np.concatenate([example.ids_T for example in examples])
    positions_T = np.concatenate([np.arange(length) for length in documents])
    # The first token of a document is never a target, so no document predicts the next one's.
    targets_N = np.flatnonzero(np.concatenate([example.is_target_T for example in examples]))
    return PackedBatch(
        row_ids=tuple(example.row_id for example in examples),
        ids_T=torch.from_numpy(ids_T).to(device),
        positions_T=torch.from_numpy(positions_T).to(device),
        ends=torch.from_numpy(np.cumsum([0, *documents], dtype=np.int32)).to(device),
        longest=max(documents),
        answered_N=torch.from_numpy(targets_N - 1).to(device),
        labels_N=torch.from_numpy(ids_T[targets_N]).to(device),
        num_tokens=num_tokens,
        num_chars=sum(example.text.num_chars for example in examples),
    )


def plan_epoch(lengths: Sequence[int], config: TrainingConfig, *, epoch: int) -> list[list[int]]:
    """Row numbers of each step, the same for every process: each row exactly once, in an order drawn by the seed."""
    rows = list(range(len(lengths)))
    random.Random(f"{config.seed}-{epoch}").shuffle(rows)
    num_rows, most_tokens = config.batches.num_rows_per_step, config.batches.num_tokens_per_step
    if most_tokens is None:
        return [rows[start : start + num_rows] for start in range(0, len(rows), num_rows)]
    steps: list[list[int]] = []
    num_tokens = 0
    for row in rows:
        if not steps or num_tokens + lengths[row] > most_tokens:
            steps.append([])
            num_tokens = 0
        steps[-1].append(row)
        num_tokens += lengths[row]
    return steps


def count_steps(lengths: Sequence[int], config: TrainingConfig, *, num_epochs: float) -> int:
    """Number of steps in this many epochs; a fraction of an epoch is rounded up to whole steps."""
    share, whole = math.modf(num_epochs)
    num_steps = sum(len(plan_epoch(lengths, config, epoch=epoch)) for epoch in range(int(whole)))
    # Rounded first: 1.6 - 1 is a little more than 0.6, and would add a step to 3 of 5.
    return num_steps + (math.ceil(round(share * len(plan_epoch(lengths, config, epoch=int(whole))), 6)) if share else 0)


def iterate_rows(lengths: Sequence[int], config: TrainingConfig, *, first: int, num_steps: int) -> Iterator[list[int]]:
    """The rows of each step from the `first` on, counted from 0, through as many epochs as `num_steps` take."""
    epochs = (plan_epoch(lengths, config, epoch=epoch) for epoch in itertools.count())
    yield from itertools.islice(itertools.chain.from_iterable(epochs), first, num_steps)


def pack(lengths: Sequence[int], *, capacity: int, num_processes: int = 1) -> list[list[list[int]]]:
    """Each process's batches of the items of one step, as item numbers; no batch holds more than `capacity` tokens.

    Best fit decreasing finds how few batches it takes; they are filled evenly if everything still fits, so that
    processes wait less for each other. Each process has the same number of batches; some may be empty.
    """
    longest_first = sorted(range(len(lengths)), key=lambda item: (-lengths[item], item))
    packed = _best_fit(lengths, longest_first, capacity)
    num_batches = -(-len(packed) // num_processes) * num_processes
    even: list[list[int]] = [[] for _ in range(num_batches)]
    filled = [0] * num_batches
    for item in longest_first:
        emptiest = filled.index(min(filled))
        even[emptiest].append(item)
        filled[emptiest] += lengths[item]
    if max(filled) > capacity:
        even = packed + [[] for _ in range(num_batches - len(packed))]
    return [even[process::num_processes] for process in range(num_processes)]


def _best_fit(lengths: Sequence[int], longest_first: Sequence[int], capacity: int) -> list[list[int]]:
    """Each item goes where it leaves the least room; D. S. Johnson's thesis (1973): at most 22 % above the fewest."""
    batches: list[list[int]] = []
    # Room left and number of each batch, sorted by room.
    rooms: list[tuple[int, int]] = []
    for item in longest_first:
        assert lengths[item] <= capacity, "no example is longer than a batch"
        place = bisect.bisect_left(rooms, (lengths[item], -1))
        if place < len(rooms):
            room, number = rooms.pop(place)
        else:
            room, number = capacity, len(batches)
            batches.append([])
        batches[number].append(item)
        bisect.insort(rooms, (room - lengths[item], number))
    return batches


def make_batches(
    examples: Sequence[Example],
    rows: Sequence[int],
    *,
    capacity: int,
    process: int = 0,
    num_processes: int = 1,
    device: torch.device | None = None,
) -> list[PackedBatch]:
    """This process's batches of a step, as many as each other process has.

    Where there are too few rows, a batch without targets takes part in the synchronization of gradients.
    """
    batches: list[PackedBatch] = []
    lengths = [len(examples[row].ids_T) for row in rows]
    for items in pack(lengths, capacity=capacity, num_processes=num_processes)[process]:
        batch = collate([examples[rows[item]] for item in items or [0]], device)
        if not items:
            none = batch.labels_N[:0]
            batch = replace(batch, row_ids=(), answered_N=none, labels_N=none, num_tokens=0, num_chars=0)
        batches.append(batch)
    return batches
