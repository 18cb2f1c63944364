"""The learning rate against transformers' own schedules."""

import pytest
import torch
from trainings import make_plan
from transformers import get_scheduler

NAMES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize(("num_warmup_steps", "num_steps"), [(0, 7), (3, 20), (5, 5)])
def test_the_rate_is_that_of_transformers_but_rises_one_step_earlier(
    kind: str, num_warmup_steps: int, num_steps: int
) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    oracle = get_scheduler(NAMES[kind], optimizer, num_warmup_steps=num_warmup_steps, num_training_steps=num_steps)
    theirs = oracle.lr_lambdas[0]  # type: ignore[attr-defined]
    schedule = {"kind": kind, "warmup_ratio": num_warmup_steps / num_steps}
    plan = make_plan(num_steps=num_steps, learning_rate=0.5, schedule=schedule)
    for step in range(num_steps):
        wanted = theirs(step + 1 if step < num_warmup_steps else step)
        if step + 1 == num_warmup_steps:
            wanted = 1.0
        found = plan.rate_at(step)
        assert found == pytest.approx(0.5 * wanted)
        assert found > 0


def test_a_share_of_steps_is_not_rounded_up_because_of_floating_point() -> None:
    # 0.07 x 100 is 7.000000000000001.
    plan = make_plan(num_steps=100, learning_rate=1.0, schedule={"kind": "constant", "warmup_ratio": 0.07})
    assert [plan.rate_at(step) for step in (6, 7)] == [1.0, 1.0]
    assert plan.rate_at(5) < 1
