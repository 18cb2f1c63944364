"""Instruction tuning: conversations teach a model to answer."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from baihua.chat.template import TemplateName, open_template
from baihua.core import kinds
from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.core.kinds import OneOf
from baihua.core.log import logger
from baihua.core.stage import Input
from baihua.train.config import BatchSettings, CheckpointSettings, ExampleSettings, OptimizerSettings, RunSettings
from baihua.train.methods import lora
from baihua.train.schedule import Config as Schedule

if TYPE_CHECKING:
    import torch

    from baihua.modelfiles.folder import Precision
    from baihua.modelfiles.shape import Shape
    from baihua.train.examples import encode as rows
    from baihua.train.plan.machines import TrainingMachine
    from baihua.train.plan.memory import Job
    from baihua.train.settings import Execution, Settings

VERSION = 2
INPUTS = {
    "model": Input(("model",)),
    "data": Input(("conversations",)),
    "heldout": Input(("conversations",), is_needed=False),
}
OUTPUT = ("adapter", "model")
IS_SHARED = True
METHODS = "baihua.train.methods"


class Config(Base):
    """How to tune."""

    method: OneOf(METHODS) = lora.Config()  # pyright: ignore[reportInvalidTypeForm]
    """What is trained: `lora` (an adapter), `full` (every weight) or another file of train/methods."""
    template: TemplateName = "model"
    """Chat template: `model` for the model's own, or the name of one of ours, which the result then carries."""
    seed: int = 0
    """Seed of the order of rows, of new weights and of dropout."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Highest learning rate; 2e-4 suits LoRA, 2e-5 full training."""
    num_train_epochs: float = Field(default=1.0, gt=0)
    """Passes over the data; fractions are allowed."""
    max_steps: int | None = Field(default=None, ge=1)
    """Number of updates, instead of `num_train_epochs`."""
    max_length: int = Field(default=1024, ge=8)
    """Most tokens of an example; see examples.over_long for longer rows."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What to compute in; `auto` takes bfloat16 where the hardware has it. What is trained stays float32."""
    examples: ExampleSettings = ExampleSettings()
    """How rows become examples."""
    batches: BatchSettings = BatchSettings()
    """How much goes into an update and into a batch."""
    schedule: Schedule = Schedule()
    """The learning rate over time."""
    optimizer: OptimizerSettings = OptimizerSettings()
    """AdamW, its weight decay and gradient clipping."""
    checkpoints: CheckpointSettings = CheckpointSettings()
    """When to save and to measure."""
    running: RunSettings = RunSettings()
    """Processes, memory, compiling, trackers."""


def run(config: Config, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Tune the model; the adapter or the whole model goes to `out`."""
    import torch

    from baihua.train.examples.preview import show_examples
    from baihua.train.loop import open_accelerator, remove_checkpoints, train
    from baihua.train.metrics import check_trackers
    from baihua.train.plan.device import peak_memory_bytes

    check_trackers(config.running.trackers)
    accelerator = open_accelerator()
    device = accelerator.device
    method = kinds.find(METHODS, config.method.kind)
    with accelerator.main_process_first():
        data, heldout = _load_examples(config, inputs)
    tokenizer, template = open_template(config.template, inputs["model"])
    if accelerator.is_main_process:
        logger.info("%s", data.describe())
        show_examples(data.kept, tokenizer, num_shown=config.examples.num_shown)
    settings = _settings(config, [len(example.ids_T) for example in data.kept], device)
    work = _plan_work(config, inputs, data, device, num_processes=accelerator.num_processes)
    base = method.load(inputs["model"], precision=settings.precision, device=device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = method.prepare(base, config.method)
    outcome = train(
        model,
        data.kept,
        heldout=heldout.kept if heldout else (),
        out=out,
        settings=settings,
        execution=_execution(config, work),
        rate_factor=lambda name: method.rate_factor(name, config.method),
    )
    if accelerator.is_main_process:
        method.save(model, out, base=inputs["model"], jinja=template.jinja, state=outcome.state)
        remove_checkpoints(out)
    return (
        outcome.figures
        | _utilization(outcome.figures, inputs["model"], work, device, settings.precision)
        | data.statistics()
        | {
            "num_trainable": sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
            "peak_memory_bytes": peak_memory_bytes(),
            "precision": settings.precision,
            "num_threads": torch.get_num_threads(),
        }
    )


def _utilization(
    figures: Mapping[str, Any], model: Path, work: "Job", device: "torch.device", precision: "Precision"
) -> dict[str, float]:
    """The share of the device's peak that the training's operations come to, recomputation included (MFU)."""
    from baihua.modelfiles.shape import shape_of
    from baihua.train.plan.machines import measure_speed
    from baihua.train.plan.memory import operations_per_token

    if "tokens_per_second" not in figures:
        return {}
    operations = figures["tokens_per_second"] * operations_per_token(shape_of(model), work)
    return {"mfu": operations / (measure_speed(device, precision) * work.num_processes)}


def _load_examples(config: Config, inputs: Mapping[str, Path]) -> "tuple[rows.ExampleSet, rows.ExampleSet | None]":
    """The examples to learn, and those held out, which are always answers: they measure how well it answers."""
    from baihua.core.env import Environment, cache_folder
    from baihua.model.examples import Encoder
    from baihua.modelfiles.folder import vocabulary_fingerprint
    from baihua.train.examples.encode import load_examples

    tokenizer, template = open_template(config.template, inputs["model"])
    vocabulary = vocabulary_fingerprint(inputs["model"])
    cache = cache_folder(Environment()) / "examples"

    def load(role: str, encoder: Encoder) -> "rows.ExampleSet":
        return load_examples(
            inputs[role],
            encoder,
            vocabulary=vocabulary,
            max_length=config.max_length,
            over_long=config.examples.over_long,
            cache=cache,
        )

    data = load("data", Encoder(tokenizer, template, config.examples.train_on))
    return data, load("heldout", Encoder(tokenizer, template)) if "heldout" in inputs else None


def _settings(config: Config, lengths: list[int], device: "torch.device") -> "Settings":
    from baihua.train.examples.batches import Order, count_steps
    from baihua.train.plan.device import choose_precision
    from baihua.train.settings import Settings

    order = Order(config.seed, config.batches.num_rows_per_step, config.batches.num_tokens_per_step)
    num_steps = config.max_steps or count_steps(lengths, order, num_epochs=config.num_train_epochs)
    return Settings(
        order=order,
        num_steps=num_steps,
        learning_rate=config.learning_rate,
        weight_decay=config.optimizer.weight_decay,
        max_grad_norm=config.optimizer.max_grad_norm,
        optimizer_kind=config.optimizer.kind,
        schedule_kind=config.schedule.kind,
        # Rounded first: 0.07 x 100 is 7.000000000000001 to a computer.
        num_warmup_steps=math.ceil(round(config.schedule.warmup_ratio * num_steps, 9)),
        precision=choose_precision(config.precision, device),
        eval_steps=config.checkpoints.eval_steps,
        keep_best=config.checkpoints.keep_best,
    )


def _execution(config: Config, work: "Job") -> "Execution":
    from baihua.train.settings import Execution

    return Execution(
        num_tokens_per_batch=_capacity(config, work.device),
        save_steps=config.checkpoints.save_steps,
        parallel=config.running.parallel,
        uses_checkpointing=work.uses_checkpointing,
        compiles=config.running.compile,
        trackers=config.running.trackers,
    )


def _capacity(config: Config, device: str) -> int:
    """Most tokens of a batch."""
    wanted = config.batches.num_tokens_per_batch
    if wanted is not None and wanted < config.max_length:
        raise InputError(
            f"a batch of {wanted:,} tokens cannot hold an example of {config.max_length:,}",
            where="batches.num_tokens_per_batch",
            fix="raise it to at least max_length, or lower max_length",
        )
    return wanted or max(config.max_length, 2048 if device == "cpu" else 8192)


def estimate(
    config: Config, inputs: Mapping[str, Path], assumed: Mapping[str, Any], machine: "TrainingMachine"
) -> dict[str, Any]:
    """What tuning would need on a machine; what depends on inputs that are not there yet is left out.

    `assumed` stands for them: `model` (a name in machines.yaml), `rows`, `tokens_per_row`, `target_share`.
    """
    from baihua.modelfiles.shape import shape_of
    from baihua.train.plan.machines import forecast, known_shape
    from baihua.train.plan.memory import count_trained

    if not assumed.get("model") and "model" not in inputs:
        return {"unknown": "the model is not built yet: run its stage, or add --assume model=NAME"}
    shape = known_shape(assumed["model"]) if assumed.get("model") else shape_of(inputs["model"])
    data = _load_examples(config, inputs)[0] if {"model", "data"} <= inputs.keys() and "rows" not in assumed else None
    lengths = [len(example.ids_T) for example in data.kept] if data else None
    mean_length = sum(lengths) / len(lengths) if lengths else float(assumed.get("tokens_per_row", config.max_length))
    share = data.statistics()["target_share"] if data else float(assumed.get("target_share", 0.5))
    job = _job(config, shape, lengths or [round(mean_length)], share, machine.device, machine.num_devices)
    per_epoch = sum(lengths) if lengths else float(assumed["rows"]) * mean_length if "rows" in assumed else None
    per_step = config.batches.num_tokens_per_step or config.batches.num_rows_per_step * mean_length
    num_tokens = config.max_steps * per_step if config.max_steps else per_epoch and per_epoch * config.num_train_epochs
    trained = count_trained(shape, job)
    is_adapter = kinds.find(METHODS, config.method.kind).OUTPUT == "adapter"
    found = forecast(shape, job, machine, num_tokens=num_tokens, wanted=config.running.gradient_checkpointing)
    # Two checkpoints and a third while it is written, each with weights and two moments; then the result.
    disk_bytes = 3 * 12 * trained + 4 * (trained if is_adapter else shape.num_weights)
    unknown = {} if num_tokens else {"unknown": "the data is not built yet: run its stage, or add --assume rows=N"}
    return found | {"disk_bytes": disk_bytes} | unknown


def _plan_work(
    config: Config, inputs: Mapping[str, Path], data: "rows.ExampleSet", device: "torch.device", *, num_processes: int
) -> "Job":
    """What is to be trained and how; warns where the estimate says that it will not fit."""
    from baihua.modelfiles.shape import shape_of
    from baihua.train.plan.device import usable_memory_bytes
    from baihua.train.plan.machines import choose_checkpointing, ways_to_fit
    from baihua.train.plan.memory import estimate_memory

    shape = shape_of(inputs["model"])
    share = data.statistics()["target_share"]
    lengths = [len(example.ids_T) for example in data.kept]
    job = _job(config, shape, lengths, share, device.type, num_processes)
    # Processes on a CPU share its memory.
    free = usable_memory_bytes(device) // (num_processes if device.type == "cpu" else 1)
    job = choose_checkpointing(shape, job, free, wanted=config.running.gradient_checkpointing)
    needed = estimate_memory(shape, job).total
    if needed > free:
        fits = ways_to_fit(shape, job, free, least_tokens=max(lengths))
        logger.warning(
            "this training needs about %.1f GB, %.1f GB are free; %s",
            *(needed / 1e9, free / 1e9, f"what would fit: {'; '.join(fits)}" if fits else "take a smaller model"),
        )
    elif job.uses_checkpointing:
        logger.info("activations are computed again on the way back (running.gradient_checkpointing)")
    return job


def _job(
    config: Config, shape: "Shape", lengths: Sequence[int], target_share: float, device: str, num_processes: int
) -> "Job":
    import torch

    from baihua.train.plan.device import choose_precision
    from baihua.train.plan.memory import Job

    method = config.method.model_dump()
    first_new = 0 if method.get("train_head") else method.get("first_new_token")
    longest_first = sorted(lengths, reverse=True)
    # No batch is larger than a step's share; the longest rows may meet in one.
    rows = longest_first[: max(1, config.batches.num_rows_per_step // num_processes)]
    in_step = config.batches.num_tokens_per_step or round(sum(rows) / len(rows) * config.batches.num_rows_per_step)
    is_here = device == "cpu"
    return Job(
        method=config.method.kind,
        num_tokens_per_batch=min(_capacity(config, device), max(config.max_length, in_step // num_processes)),
        mean_length=sum(lengths) / len(lengths),
        target_share=target_share,
        precision=choose_precision(config.precision, torch.device("cpu")) if is_here else _on_gpu(config.precision),
        rank=method.get("rank", 0),
        target_modules=tuple(method.get("target_modules", ())),
        has_dropout=method.get("dropout", 0) > 0,
        num_trained_layers=method.get("num_layers", 0),
        num_trained_rows=shape.num_tokens - (shape.num_tokens if first_new is None else first_new),
        optimizer_kind=config.optimizer.kind,
        num_processes=num_processes,
        parallel=config.running.parallel,
        device="cpu" if is_here else "cuda",
    )


def _on_gpu(precision: str) -> Literal["float32", "bfloat16"]:
    """What a GPU of today computes in."""
    return "float32" if precision == "float32" else "bfloat16"
