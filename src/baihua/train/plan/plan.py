"""The plan of a training: steps, batches, precision and recomputation, from a recipe's settings, data and device."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from baihua.core.log import logger
from baihua.modelfiles.folder import Precision
from baihua.modelfiles.shape import Shape
from baihua.train.config import TrainingConfig
from baihua.train.examples.batches import Order, count_steps
from baihua.train.examples.encode import ExampleSet
from baihua.train.plan.device import choose_precision, measure_speed, usable_memory_bytes
from baihua.train.plan.memory import Workload, estimate_memory, operations_per_token
from baihua.train.plan.workload import choose_recomputation, make_workload, tokens_per_batch, ways_to_fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the training loop follows."""

    config: TrainingConfig
    num_steps: int
    num_tokens_per_batch: int
    """Most tokens that a device processes at once."""
    precision: Precision
    recomputes: bool = False
    """Whether activations are recomputed in the backward pass (gradient checkpointing)."""

    @property
    def num_warmup_steps(self) -> int:
        """Steps in which the learning rate rises."""
        # Rounded first: 0.07 x 100 is 7.000000000000001 in floating point.
        return math.ceil(round(self.config.schedule.warmup_ratio * self.num_steps, 9))


def plan_training(
    config: TrainingConfig, shape: Shape, data: ExampleSet, *, device: torch.device, num_processes: int
) -> tuple[Plan, Workload]:
    """The plan, and its workload on each device; warns if the estimate says that it will not fit into memory."""
    lengths = [len(example.ids_T) for example in data.kept]
    kind = "cpu" if device.type == "cpu" else "cuda"
    precision = choose_precision(config.precision, device)
    work = make_workload(
        config,
        shape,
        lengths,
        target_share=data.target_share,
        device=kind,
        precision=precision,
        num_processes=num_processes,
    )
    # Processes on a CPU share its memory.
    free = usable_memory_bytes(device) // (num_processes if kind == "cpu" else 1)
    work = choose_recomputation(work, free, wanted=config.running.gradient_checkpointing)
    _report_memory(work, config, free, longest=max(lengths))
    plan = Plan(
        config=config,
        num_steps=config.max_steps or count_steps(lengths, order_of(config), num_epochs=config.num_train_epochs),
        num_tokens_per_batch=tokens_per_batch(config, kind),
        precision=precision,
        recomputes=work.recomputes,
    )
    return plan, work


def order_of(config: TrainingConfig) -> Order:
    """How examples become steps."""
    return Order(config.seed, config.batches.num_rows_per_step, config.batches.num_tokens_per_step)


def utilization(figures: Mapping[str, Any], work: Workload, *, device: torch.device) -> dict[str, float]:
    """Share of the devices' measured peak that the training's operations come to, recomputation included (MFU)."""
    if "tokens_per_second" not in figures:
        return {}
    operations = figures["tokens_per_second"] * operations_per_token(work)
    return {"mfu": operations / (measure_speed(device, work.precision) * work.num_processes)}


def _report_memory(work: Workload, config: TrainingConfig, free: int, *, longest: int) -> None:
    needed = estimate_memory(work).total
    if needed > free:
        fits = ways_to_fit(work, config.method, free, least_tokens=longest)
        logger.warning(
            "this training needs about %.1f GB of memory, but %.1f GB are free; %s",
            needed / 1e9,
            free / 1e9,
            f"what would fit: {'; '.join(fits)}" if fits else "use a smaller model",
        )
    elif work.recomputes:
        logger.info("activations are recomputed in the backward pass (running.gradient_checkpointing)")
