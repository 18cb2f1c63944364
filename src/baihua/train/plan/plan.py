"""The plan of a training: steps, batches, precision and recomputation, from a recipe's settings, data and device."""

import math
from dataclasses import dataclass

import torch

from baihua.core.log import logger
from baihua.modelfiles.folder import Precision
from baihua.modelfiles.shape import Shape
from baihua.train.config import TrainingConfig
from baihua.train.examples.batches import count_steps
from baihua.train.examples.encode import ExampleSet
from baihua.train.plan.device import this_machine
from baihua.train.plan.memory import Workload, estimate_memory
from baihua.train.plan.workload import make_workload, tokens_per_batch, ways_to_fit


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

    def rate_at(self, step: int) -> float:
        """The learning rate at a step, counted from 0; never 0, which would waste a step."""
        schedule, highest = self.config.schedule, self.config.learning_rate
        # Rounded first: 0.07 x 100 is 7.000000000000001 in floating point.
        num_warmup_steps = math.ceil(round(schedule.warmup_ratio * self.num_steps, 9))
        if step < num_warmup_steps:
            return highest * ((step + 1) / num_warmup_steps)
        if schedule.kind == "constant":
            return highest
        share = min((step - num_warmup_steps) / max(1, self.num_steps - num_warmup_steps), 1.0)
        return highest * (1.0 - share if schedule.kind == "linear" else 0.5 * (1.0 + math.cos(math.pi * share)))


def plan_training(
    config: TrainingConfig, shape: Shape, data: ExampleSet, *, device: torch.device, num_processes: int
) -> tuple[Plan, Workload]:
    """The plan, and its workload on each device; warns if the estimate says that it will not fit into memory."""
    machine = this_machine(device, precision=config.precision, num_processes=num_processes)
    lengths = [len(example.ids_T) for example in data.kept]
    work = make_workload(config, shape, lengths, target_share=data.target_share, machine=machine)
    needed, free = estimate_memory(work).total, machine.memory_bytes
    if needed > free:
        fits = ways_to_fit(work, config.method, free, least_tokens=max(lengths))
        advice = f"what would fit: {'; '.join(fits)}" if fits else "use a smaller model"
        message = "this training needs about %.1f GB of memory, but %.1f GB are free; %s"
        logger.warning(message, needed / 1e9, free / 1e9, advice)
    elif work.recomputes:
        logger.info("activations are recomputed in the backward pass (running.gradient_checkpointing)")
    num_steps = config.max_steps or count_steps(lengths, config, num_epochs=config.num_train_epochs)
    sizes = {"num_steps": num_steps, "num_tokens_per_batch": tokens_per_batch(config, machine)}
    return Plan(config=config, precision=machine.precision, recomputes=work.recomputes, **sizes), work
