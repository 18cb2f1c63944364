"""The forecast of `baihua check`: memory, time, disk and cost of a training on a machine."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from baihua.chat.template import open_template
from baihua.model.examples import Encoder
from baihua.modelfiles.shape import Shape, shape_of
from baihua.train.config import TrainingConfig
from baihua.train.methods import find_method
from baihua.train.plan.machines import GIB, TrainingMachine, known_shape
from baihua.train.plan.memory import Workload, estimate_memory, operations_per_token
from baihua.train.plan.workload import choose_recomputation, make_workload


def forecast_tuning(
    config: TrainingConfig,
    inputs: Mapping[str, Path],
    assumed: Mapping[str, Any],
    machine: TrainingMachine,
    *,
    template: str,
) -> dict[str, Any]:
    """What `tune` needs on a machine; `assumed` stands for inputs that are not built yet (see stages/tune.py)."""
    if not assumed.get("model") and "model" not in inputs:
        return {"unknown": "the model is not built yet: run its stage, or add --assume model=NAME"}
    shape = known_shape(assumed["model"]) if assumed.get("model") else shape_of(inputs["model"])
    lengths = [round(float(assumed.get("tokens_per_row", config.max_length)))]
    target_share, num_examples = float(assumed.get("target_share", 0.5)), float(assumed.get("rows", 0))
    if {"model", "data"} <= inputs.keys() and "rows" not in assumed:
        # Loads torch, so only where there are rows to tokenise.
        from baihua.train.tuning import load_conversations

        encoder = Encoder(*open_template(template, inputs["model"]), config.examples.train_on)
        data = load_conversations(config, inputs, "data", encoder)
        lengths, target_share = [len(example.ids_T) for example in data.kept], data.target_share
        num_examples = len(lengths)
    return forecast_training(
        config, shape, machine, lengths=lengths, target_share=target_share, num_examples=num_examples
    )


def forecast_training(
    config: TrainingConfig,
    shape: Shape,
    machine: TrainingMachine,
    *,
    lengths: Sequence[int],
    target_share: float,
    num_examples: float,
) -> dict[str, Any]:
    """What a training needs; `lengths` stand for all examples, whose number is 0 if it is unknown.

    Then time and cost are None, unless the number of steps is set.
    """
    work = make_workload(
        config,
        shape,
        lengths,
        target_share=target_share,
        device=machine.device,
        precision=machine.precision if config.precision == "auto" else config.precision,
        num_processes=machine.num_devices,
    )
    work = choose_recomputation(work, machine.memory_bytes, wanted=config.running.gradient_checkpointing)
    method = find_method(config.method.kind)
    share = machine.peak_share or method.PEAK_SHARE
    memory = estimate_memory(work)
    speed = share * machine.operations_per_second * work.num_processes / operations_per_token(work)
    num_tokens = _count_tokens(config, work.mean_length, num_examples)
    seconds = None if num_tokens is None else num_tokens / speed
    num_trained = work.trained.num_weights
    return {
        "memory_bytes": memory.total,
        "fits": memory.total <= machine.memory_bytes,
        "seconds": seconds,
        "cost": None if seconds is None or machine.price is None else round(seconds / 3600 * machine.price, 2),
        "tokens_per_second": speed,
        "memory": asdict(memory),
        "gradient_checkpointing": work.recomputes,
        "assumptions": _assumptions(config.method.kind, work, machine, share),
        # Two checkpoints and a third while it is written, each with weights and two moments; then the result.
        "disk_bytes": 36 * num_trained + 4 * (num_trained if method.OUTPUT == "adapter" else shape.num_weights),
    } | ({} if num_tokens else {"unknown": "the data is not built yet: run its stage, or add --assume rows=N"})


def _count_tokens(config: TrainingConfig, mean_length: float, num_examples: float) -> float | None:
    """Tokens of the whole training, padding not counted."""
    if config.max_steps:
        per_step = config.batches.num_tokens_per_step or config.batches.num_rows_per_step * mean_length
        return config.max_steps * per_step
    return num_examples * mean_length * config.num_train_epochs or None


def _assumptions(method: str, work: Workload, machine: TrainingMachine, share: float) -> list[str]:
    price = f"{machine.price} {machine.currency} ({machine.price_source})" if machine.price else machine.price_source
    return [
        f"{machine.name}: {machine.num_devices} x {machine.memory_bytes / GIB:.1f} GiB, "
        f"{machine.operations_per_second / 1e12:.3g} TFLOP/s each, of which {method} reaches {share:.0%}",
        f"{method}, {work.precision}, batches of {work.num_tokens_per_batch:,} tokens on each device, "
        f"examples of {work.mean_length:.0f} tokens, {work.target_share:.0%} of them trained",
        f"price per hour: {price}",
    ]
