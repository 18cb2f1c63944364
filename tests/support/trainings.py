"""Small trainings for tests of the loop: a model, plans, and examples that end a run where a test wants."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from baihua.model.examples import Example
from baihua.model.load import load_model
from baihua.train.config import TrainingConfig
from baihua.train.loop import METRICS
from baihua.train.methods import lora
from baihua.train.plan.plan import Plan

PLAN_FIELDS = ("num_steps", "num_tokens_per_batch", "precision", "recomputes")


def make_plan(**changes: Any) -> Plan:
    """A plan of eight steps, with fields of the plan or of its config changed; groups of the config are merged."""
    plan = Plan(
        config=TrainingConfig.model_validate(
            {
                "seed": 1,
                "learning_rate": 5e-3,
                "batches": {"num_rows_per_step": 4},
                "schedule": {"warmup_ratio": 0.25},
            }
        ),
        num_steps=8,
        # Rows of these tests have up to 120 tokens, so a step takes several batches.
        num_tokens_per_batch=150,
        precision="float32",
    )
    return change(plan, **changes)


def change(plan: Plan, **changes: Any) -> Plan:
    """The same plan with fields of it or of its config changed; groups of the config are merged."""
    of_plan = {name: changes.pop(name) for name in PLAN_FIELDS if name in changes}
    tree = plan.config.model_dump()
    for name, value in changes.items():
        tree[name] = tree[name] | value if isinstance(value, dict) else value
    return replace(plan, config=TrainingConfig.model_validate(tree), **of_plan)


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
    """Examples that do something to their run when they have been read this many times."""

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
