"""Instruction tuning: conversations teach a model to answer."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from baihua.chat.template import TemplateName, open_template
from baihua.core import kinds
from baihua.core.config import Base, execution
from baihua.core.kinds import OneOf
from baihua.core.stage import Input
from baihua.model.examples import Encoder
from baihua.train.methods import lora
from baihua.train.schedule import Config as Schedule

if TYPE_CHECKING:
    from baihua.model.load import Precision
    from baihua.train.batches import Examples
    from baihua.train.loop import Settings

VERSION = 1
INPUTS = {
    "model": Input(("model",)),
    "data": Input(("conversations",)),
    "heldout": Input(("conversations",), is_needed=False),
}
OUTPUT = ("adapter", "model")
METHODS = "baihua.train.methods"


class Optimizer(Base):
    """AdamW's settings beside the learning rate."""

    weight_decay: float = Field(default=0.0, ge=0)
    """How strongly matrices are pulled to zero, per step and unit of learning rate."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients longer than this are shortened to it."""


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
    """Most tokens of a row; longer conversations lose their last turns, longer answers their end."""
    per_device_train_batch_size: int = Field(default=4, ge=1)
    """Rows that a device reads at once; more need more memory."""
    gradient_accumulation_steps: int = Field(default=4, ge=1)
    """Batches per update and device."""
    schedule: Schedule = Schedule()
    """The learning rate over time."""
    optimizer: Optimizer = Optimizer()
    """Weight decay and gradient clipping."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What to compute in; `auto` takes bfloat16 where the hardware has it. What is trained stays float32."""
    save_steps: int = execution(200)
    """Updates between two checkpoints, from 1."""
    eval_steps: int = execution(0)
    """Updates between two measurements on `heldout`; 0 measures at the end only."""
    num_shown: int = execution(3)
    """Rows shown, coloured, before training starts; 0 shows none."""


def run(config: Config, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Tune the model; the adapter or the whole model goes to `out`."""
    import torch
    from accelerate import PartialState

    from baihua.model.load import load_model
    from baihua.model.memory import peak_memory_bytes
    from baihua.train.loop import remove_checkpoints, train
    from baihua.train.loss import choose_precision
    from baihua.train.show import show_examples

    method = kinds.find(METHODS, config.method.kind)
    # Without this word Accelerate ignores torchrun on machines that have no GPU.
    processes = PartialState(cpu=not torch.accelerator.is_available())
    tokenizer, template = open_template(config.template, inputs["model"])
    encoder = Encoder(tokenizer, template)
    data = _read(inputs["data"], encoder, config)
    heldout = _read(inputs["heldout"], encoder, config).kept if "heldout" in inputs else []
    if processes.is_main_process:
        show_examples(data.kept, tokenizer, num_shown=config.num_shown)

    precision = choose_precision(config.precision, torch.device(processes.device or "cpu"))
    base = load_model(inputs["model"], dtype=method.base_dtype(precision))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = method.prepare(base, config.method)
    figures = train(
        model,
        data.kept,
        heldout=heldout,
        out=out,
        settings=_settings(config, num_rows=len(data.kept), num_processes=processes.num_processes, precision=precision),
        save_steps=config.save_steps,
        eval_steps=config.eval_steps,
    )
    if processes.is_main_process:
        method.save(model, out, base=inputs["model"], jinja=template.jinja)
        remove_checkpoints(out)
    return figures | {
        "num_rows_in": len(data.kept) + sum(data.num_dropped.values()),
        "num_rows_kept": len(data.kept),
        "num_rows_dropped": data.num_dropped,
        "num_rows_cut": sum(example.is_cut for example in data.kept),
        "num_trainable": sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
        "peak_memory_bytes": peak_memory_bytes(),
        "precision": precision,
        "num_threads": torch.get_num_threads(),
    }


def _read(path: Path, encoder: Encoder, config: Config) -> "Examples":
    from baihua.data.rows import read_rows
    from baihua.train.batches import make_examples

    return make_examples(read_rows(path), encoder, max_length=config.max_length)


def _settings(config: Config, *, num_rows: int, num_processes: int, precision: "Precision") -> "Settings":
    from baihua.train.batches import Order, num_steps_per_epoch
    from baihua.train.loop import Settings

    order = Order(
        seed=config.seed,
        num_rows_per_batch=config.per_device_train_batch_size,
        num_batches_per_step=config.gradient_accumulation_steps,
        num_processes=num_processes,
    )
    num_steps = config.max_steps or math.ceil(config.num_train_epochs * num_steps_per_epoch(num_rows, order))
    return Settings(
        num_steps=num_steps,
        seed=config.seed,
        learning_rate=config.learning_rate,
        weight_decay=config.optimizer.weight_decay,
        max_grad_norm=config.optimizer.max_grad_norm,
        schedule_kind=config.schedule.kind,
        num_warmup_steps=math.ceil(config.schedule.warmup_ratio * num_steps),
        num_rows_per_batch=config.per_device_train_batch_size,
        num_batches_per_step=config.gradient_accumulation_steps,
        precision=precision,
    )
