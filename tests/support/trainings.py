"""Small trainings for tests of the loop: a model, settings, and examples that end a run where a test wants."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from baihua.model.examples import Example
from baihua.model.load import load_model
from baihua.train.examples.batches import Order
from baihua.train.methods import lora
from baihua.train.settings import Execution, Settings
from baihua.train.work import METRICS

SETTINGS = Settings(order=Order(1, num_rows_per_step=4), num_steps=8, learning_rate=5e-3, num_warmup_steps=2)
# Rows of these tests have up to 120 tokens, so a step takes several batches.
EXECUTION = Execution(num_tokens_per_batch=150)


def make_lora(folder: Path, dropout: float = 0.3) -> nn.Module:
    """The tiny model with matrices that start the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return lora.prepare(load_model(folder), lora.Config(rank=4, dropout=dropout))


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """The lines of a training's figures."""
    return [json.loads(line) for line in (out / METRICS).read_text(encoding="utf-8").splitlines()]


def is_equal(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    """Whether all weights are the same, bit for bit."""
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


class KilledError(Exception):
    """Stands for a kill."""


def die() -> None:
    """End the training at once."""
    raise KilledError


class Interrupted(Sequence[Example]):
    """Examples that do something to their run when they have been read so many times."""

    def __init__(self, examples: Sequence[Example], num_reads: int, then: Callable[[], None] = die) -> None:
        self.examples, self.num_reads, self.then = examples, num_reads, then

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    def __getitem__(self, index: Any) -> Any:
        self.num_reads -= 1
        if self.num_reads == 0:
            self.then()
        return self.examples[index]
