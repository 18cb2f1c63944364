"""The workload of a recipe on a machine: what makes it fit into memory, and the forecast of `baihua check`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from baihua.chat.template import open_template
from baihua.core import kinds
from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.model.examples import Encoder
from baihua.modelfiles.folder import vocabulary_fingerprint
from baihua.modelfiles.shape import Shape, shape_of
from baihua.train.config import TrainingConfig
from baihua.train.examples.encode import load_examples
from baihua.train.methods import METHODS, find_method
from baihua.train.plan.machines import GIB, TrainingMachine, known_shape
from baihua.train.plan.memory import Trained, Workload, estimate_memory, operations_per_token

TOKENS_PER_BATCH = {"cpu": 2048, "cuda": 8192}
SMALLEST_BATCH = 256


def make_workload(
    config: TrainingConfig, shape: Shape, lengths: Sequence[int], *, target_share: float, machine: TrainingMachine
) -> Workload:
    """The workload of a model of this shape and of examples of these lengths.

    `running.gradient_checkpointing: auto` recomputes activations if the workload would not fit without it.
    """
    batches, num_processes = config.batches, machine.num_devices
    # No batch is larger than a process's part of a step, even if the longest rows meet in one.
    longest = sorted(lengths, reverse=True)[: max(1, batches.num_rows_per_step // num_processes)]
    in_step = batches.num_tokens_per_step or round(sum(longest) / len(longest) * batches.num_rows_per_step)
    largest_batch = max(config.max_length, in_step // num_processes)
    work = Workload(
        shape=shape,
        trained=find_method(config.method.kind).describe(shape, config.method),
        num_tokens_per_batch=min(tokens_per_batch(config, machine), largest_batch),
        mean_length=sum(lengths) / len(lengths),
        target_share=target_share,
        precision=machine.precision if config.precision == "auto" else config.precision,
        optimizer=config.optimizer.kind,
        parallel=config.running.parallel,
        num_processes=num_processes,
        device=machine.device,
    )
    wanted = config.running.gradient_checkpointing
    return replace(work, recomputes=not _fits(work, machine.memory_bytes) if wanted == "auto" else wanted)


def tokens_per_batch(config: TrainingConfig, machine: TrainingMachine) -> int:
    """Most tokens of a batch."""
    wanted = config.batches.num_tokens_per_batch
    if wanted is not None and wanted < config.max_length:
        what = f"a batch of {wanted:,} tokens cannot hold an example of {config.max_length:,}"
        fix = "raise it to at least max_length, or lower max_length"
        raise InputError(what, where="batches.num_tokens_per_batch", fix=fix)
    return wanted or max(config.max_length, TOKENS_PER_BATCH[machine.device])


def ways_to_fit(work: Workload, method: Base, free_bytes: int, *, least_tokens: int) -> list[str]:
    """Changes of a recipe each of which makes a workload fit that does not; if none does alone, all of them together.

    A batch has at least `least_tokens`. Empty if nothing helps.
    """
    smallest, halved = (max(least_tokens, size) for size in (SMALLEST_BATCH, work.num_tokens_per_batch // 2))
    ways = {
        f"batches.num_tokens_per_batch={size}": replace(work, num_tokens_per_batch=size)
        for size in sorted({smallest, halved})
    }
    ways["running.gradient_checkpointing=true"] = replace(work, recomputes=True)
    lighter = {f"method.kind={kind}": trained for kind, trained in matrices_instead(work.shape, method)}
    ways |= {way: replace(work, trained=trained) for way, trained in lighter.items()}
    if fitting := [way for way, changed in ways.items() if _fits(changed, free_bytes)]:
        return fitting
    everything = replace(work, num_tokens_per_batch=smallest, recomputes=True)
    together = f"running.gradient_checkpointing=true and batches.num_tokens_per_batch={smallest}"
    if lighter:
        way = min(lighter, key=lambda name: estimate_memory(replace(work, trained=lighter[name])).total)
        everything, together = replace(everything, trained=lighter[way]), f"{together} and {way}"
    return [together] if _fits(everything, free_bytes) else []


def matrices_instead(shape: Shape, method: Base) -> Iterator[tuple[str, Trained]]:
    """Other methods that add matrices to frozen weights, with the settings that this one has too."""
    settings = method.model_dump()
    for kind in kinds.names(METHODS):
        other = find_method(kind)
        shared = {name: settings[name] for name in other.Config.model_fields if name in settings and name != "kind"}
        try:
            trained = other.describe(shape, other.Config(**shared))
        except ValidationError:
            continue  # It requires a setting that this method does not have.
        if kind != settings["kind"] and trained.is_adapter and trained.num_kept:
            yield kind, trained


def forecast_tuning(
    config: TrainingConfig, inputs: Mapping[str, Path], assumed: Mapping[str, Any], machine: TrainingMachine
) -> dict[str, Any]:
    """What `tune` needs on a machine; `assumed` stands for inputs that are not built yet (see stages/tune.py)."""
    if not assumed.get("model") and "model" not in inputs:
        return {"unknown": "the model is not built yet: run its stage, or add --assume model=NAME"}
    shape = known_shape(assumed["model"]) if assumed.get("model") else shape_of(inputs["model"])
    lengths = [round(float(assumed.get("tokens_per_row", config.max_length)))]
    target_share, num_examples = float(assumed.get("target_share", 0.5)), float(assumed.get("rows", 0))
    if {"model", "data"} <= inputs.keys() and "rows" not in assumed:
        encoder = Encoder(*open_template(config.template, inputs["model"]), config.examples.train_on)
        data = load_examples(inputs["data"], encoder, config, vocabulary_fingerprint(inputs["model"]))
        lengths, target_share = [len(example.ids_T) for example in data.kept], data.target_share
        num_examples = len(lengths)
    work = make_workload(config, shape, lengths, target_share=target_share, machine=machine)
    return forecast(config, work, machine, num_examples=num_examples)


def forecast(
    config: TrainingConfig, work: Workload, machine: TrainingMachine, *, num_examples: float
) -> dict[str, Any]:
    """Memory, time, disk and cost. Time and cost are None if neither examples (0) nor steps are known."""
    method, kind = find_method(config.method.kind), config.method.kind
    share = machine.peak_share or method.PEAK_SHARE
    memory = estimate_memory(work)
    speed = share * machine.operations_per_second * work.num_processes / operations_per_token(work)
    per_step = config.batches.num_tokens_per_step or config.batches.num_rows_per_step * work.mean_length
    per_epoch = num_examples * work.mean_length
    num_tokens = config.max_steps * per_step if config.max_steps else per_epoch * config.num_train_epochs
    seconds = num_tokens / speed if num_tokens else None
    price = f"{machine.price} {machine.currency} ({machine.price_source})" if machine.price else machine.price_source
    num_trained = work.trained.num_weights
    return {
        "memory_bytes": memory.total,
        "fits": memory.total <= machine.memory_bytes,
        "seconds": seconds,
        "cost": round(seconds / 3600 * machine.price, 2) if seconds and machine.price else None,
        "tokens_per_second": speed,
        "memory": asdict(memory),
        "gradient_checkpointing": work.recomputes,
        "assumptions": [
            f"{machine.name}: {machine.num_devices} x {machine.memory_bytes / GIB:.1f} GiB, "
            f"{machine.operations_per_second / 1e12:.3g} TFLOP/s each, of which {kind} reaches {share:.0%}",
            f"{kind}, {work.precision}, batches of {work.num_tokens_per_batch:,} tokens on each device, "
            f"examples of {work.mean_length:.0f} tokens, {work.target_share:.0%} of them trained",
            f"price per hour: {price}",
        ],
        # Two checkpoints and a third while it is written, each with weights and two moments; then the result.
        "disk_bytes": 36 * num_trained + 4 * (num_trained if method.OUTPUT == "adapter" else work.shape.num_weights),
    } | ({} if num_tokens else {"unknown": "the data is not built yet: run its stage, or add --assume rows=N"})


def _fits(work: Workload, free_bytes: int) -> bool:
    return estimate_memory(work).total <= free_bytes
