"""AdamW over the trained weights, in groups that share a learning rate and a decay."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from baihua.model.load import import_bitsandbytes
from baihua.train.config import TrainingConfig


def make_optimizer(
    trained: Mapping[str, nn.Parameter], config: TrainingConfig, rate_factor: Callable[[str], float] = lambda name: 1.0
) -> torch.optim.Optimizer:
    """The optimizer; each group keeps its own factor of the learning rate as `rate_factor`.

    Only matrices decay: norms and biases have no reason to be small. `adamw_8bit` holds both moments in a byte each
    (arXiv 2110.02861).
    """
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        decay = config.optimizer.weight_decay if parameter.ndim >= 2 else 0.0
        members.setdefault((rate_factor(name), decay), []).append(parameter)
    groups = [
        {"params": parameters, "weight_decay": decay, "lr": config.learning_rate * factor, "rate_factor": factor}
        for (factor, decay), parameters in members.items()
    ]
    if config.optimizer.kind == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
    bitsandbytes = import_bitsandbytes("an optimizer of 8 bits", where="optimizer.kind")
    return bitsandbytes.optim.AdamW8bit(groups, lr=config.learning_rate)


def set_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of every group, times the group's own factor."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["rate_factor"]
