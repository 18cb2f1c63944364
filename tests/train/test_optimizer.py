"""The optimizer's groups: what decays, and what learns faster."""

import pytest
import torch
from torch import nn

from baihua.train.config import OptimizerSettings, TrainingConfig
from baihua.train.step import make_optimizer, set_rate

NAMES = {"a.lora_A.weight": (2, 3), "a.lora_B.weight": (3, 2), "norm.weight": (3,), "a.bias": (3,)}


def parameters() -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(torch.ones(shape)) for name, shape in NAMES.items()}


def config(learning_rate: float = 0.1, **settings: object) -> TrainingConfig:
    return TrainingConfig(learning_rate=learning_rate, optimizer=OptimizerSettings.model_validate(settings))


def factor(name: str) -> float:
    return 16.0 if "lora_B" in name else 1.0


def settings_of(optimizer: torch.optim.Optimizer, trained: dict[str, nn.Parameter]) -> dict[str, tuple[float, float]]:
    """Learning rate and decay by name of parameter."""
    by_place = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    return {name: by_place[id(parameter)] for name, parameter in trained.items()}


def test_only_matrices_decay_and_each_parameter_has_its_own_rate() -> None:
    trained = parameters()
    optimizer = make_optimizer(trained, config(weight_decay=0.01), factor)
    assert settings_of(optimizer, trained) == {
        "a.lora_A.weight": (0.1, 0.01),
        "a.lora_B.weight": (pytest.approx(1.6), 0.01),
        "norm.weight": (0.1, 0.0),
        "a.bias": (0.1, 0.0),
    }


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.5])
def test_the_factor_of_a_group_counts_in_every_step(rate: float) -> None:
    trained = parameters()
    optimizer = make_optimizer(trained, config(), factor)
    for _ in range(2):
        set_rate(optimizer, rate)
        found = {name: lr for name, (lr, _) in settings_of(optimizer, trained).items()}
        assert found == {name: pytest.approx(rate * factor(name)) for name in NAMES}


def test_a_factor_moves_a_parameter_that_many_times_as_far() -> None:
    trained = parameters()
    optimizer = make_optimizer(trained, config(1e-3), factor)
    sum(parameter.sum() for parameter in trained.values()).backward()
    optimizer.step()
    moved = {name: float(1 - parameter.detach().flatten()[0]) for name, parameter in trained.items()}
    # Adam's first step is as long as its rate.
    assert moved == {name: pytest.approx(1e-3 * factor(name), rel=1e-3) for name in NAMES}


def test_decay_shortens_a_matrix_without_a_gradient_and_leaves_a_norm_alone() -> None:
    trained = parameters()
    optimizer = make_optimizer(trained, config(weight_decay=0.5))
    for parameter in trained.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert trained["a.lora_A.weight"][0, 0].item() == pytest.approx(1 - 0.1 * 0.5)
    assert trained["norm.weight"][0].item() == 1.0


def test_eight_bits_have_the_same_groups() -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install 'baihua[gpu]'")
    trained = parameters()
    plain, small = (
        make_optimizer(trained, config(kind=kind, weight_decay=0.01), factor) for kind in ("adamw", "adamw_8bit")
    )
    assert settings_of(small, trained) == settings_of(plain, trained)
    set_rate(small, 0.2)
    assert settings_of(small, trained)["a.lora_B.weight"] == (pytest.approx(3.2), 0.01)
