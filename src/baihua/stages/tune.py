"""Instruction tuning: conversations train a model to answer."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baihua.core.stage import Input, Inputs, Metrics
from baihua.train.config import TrainingConfig

if TYPE_CHECKING:
    from baihua.train.plan.machines import TrainingMachine

VERSION = 2
INPUTS = {
    "model": Input(("model",)),
    "data": Input(("conversations",)),
    "heldout": Input(("conversations",), is_required=False),
}
OUTPUT = ("adapter", "model")
IS_SHARED = True


class Config(TrainingConfig):
    """How to tune."""


def run(config: Config, inputs: Inputs, out: Path) -> Metrics:
    """Tune the model; the adapter or the whole model goes to `out`."""
    from baihua.train.tuning import tune

    return tune(config, inputs, out)


def estimate(config: Config, inputs: Inputs, assumed: Mapping[str, Any], machine: "TrainingMachine") -> Metrics:
    """The memory, time, disk and cost of tuning on a machine; what depends on inputs not built yet is left out.

    `assumed` stands for them: `model` (a name in machines.yaml), `rows`, `tokens_per_row`, `target_share`.
    """
    from baihua.train.plan.workload import forecast_tuning

    return forecast_tuning(config, inputs, assumed, machine)
