"""The learning rate against transformers' own schedules."""

from typing import Literal

import pytest
import torch
from transformers import get_scheduler

from baihua.train.optimizer import schedule_factor

Kind = Literal["cosine", "linear", "constant"]

NAMES: dict[Kind, str] = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize(("num_warmup_steps", "num_steps"), [(0, 7), (3, 20), (5, 5)])
def test_the_rate_is_that_of_transformers_but_rises_one_step_earlier(
    kind: Kind, num_warmup_steps: int, num_steps: int
) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    oracle = get_scheduler(NAMES[kind], optimizer, num_warmup_steps=num_warmup_steps, num_training_steps=num_steps)
    theirs = oracle.lr_lambdas[0]  # type: ignore[attr-defined]
    for step in range(num_steps):
        wanted = theirs(step + 1 if step < num_warmup_steps else step)
        if step + 1 == num_warmup_steps:
            wanted = 1.0
        found = schedule_factor(step, kind=kind, num_warmup_steps=num_warmup_steps, num_steps=num_steps)
        assert found == pytest.approx(wanted)
        assert found > 0
