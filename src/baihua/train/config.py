"""Settings that the training stages share. Nothing heavy is imported here, so that recipes are validated quickly."""

from typing import Annotated, Literal

from pydantic import Field

from baihua.chat.template import TemplateName
from baihua.core.config import Base, execution
from baihua.core.kinds import OneOf
from baihua.train.methods import METHODS, lora


class ExampleSettings(Base):
    """How rows become examples."""

    train_on: Literal["answers", "last_answer", "everything"] = "answers"
    """Which tokens are trained: all answers with their end-of-turn tokens, the last answer only, or everything."""
    over_long: Literal["split", "drop", "refuse"] = "split"
    """Rows above `max_length` tokens: split between turns (never inside one), dropped, or an error."""
    num_shown: Annotated[int, Field(ge=0)] = execution(3)
    """Examples printed in colour before training starts; 0 prints none."""


class BatchSettings(Base):
    """Sizes of a step and of a batch."""

    num_rows_per_step: int = Field(default=16, ge=1)
    """Examples per update, over all processes."""
    num_tokens_per_step: int | None = Field(default=None, ge=1)
    """Most tokens per update, instead of `num_rows_per_step`."""
    num_tokens_per_batch: Annotated[int | None, Field(ge=1)] = execution(None)
    """Most tokens that a device processes at once, at least `max_length`; 2,048 by default, on a GPU 8,192."""


class ScheduleSettings(Base):
    """The learning rate over time: a linear warm-up, then a decay."""

    kind: Literal["cosine", "linear", "constant"] = "cosine"
    """Decay after the warm-up: half a cosine, a straight line, or none."""
    warmup_ratio: float = Field(default=0.03, ge=0, le=1)
    """Share of all steps in which the rate rises from zero, 0 to 1."""


class OptimizerSettings(Base):
    """AdamW, apart from its learning rate."""

    kind: Literal["adamw", "adamw_8bit"] = "adamw"
    """`adamw`, or `adamw_8bit` of bitsandbytes, whose moments take 2 bytes per weight instead of 8."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay of matrices, per step and unit of learning rate."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients with a larger norm are clipped to it."""


class CheckpointSettings(Base):
    """When to save and to evaluate."""

    save_steps: Annotated[int, Field(ge=1)] = execution(200)
    """Updates between two checkpoints, from 1."""
    eval_steps: int = Field(default=0, ge=0)
    """Updates between two evaluations on `heldout`; 0 evaluates at the end only."""
    keep_best: bool = False
    """Whether the result is the weights with the best bits per character on `heldout` instead of the last ones."""


class RunSettings(Base):
    """How the work is done on this machine; changes no more than the last bits of the result."""

    parallel: Literal["ddp", "fsdp"] = execution("ddp")
    """With several processes: a copy of the model on each (`ddp`), or a shard of it (`fsdp`)."""
    gradient_checkpointing: bool | Literal["auto"] = execution("auto")
    """Recompute activations in the backward pass: a third more work, much less memory; `auto` where it is needed."""
    compile: bool = execution(False)
    """Compile the layers first; needs a C++ compiler, or Triton on a GPU, and a minute."""
    trackers: tuple[Literal["tensorboard", "wandb", "swanlab", "trackio"], ...] = execution(())
    """Trackers that get the figures of `metrics.jsonl` as well; each must be installed."""


class TrainingConfig(Base):
    """How to train on conversations."""

    method: OneOf(METHODS) = lora.Config()  # pyright: ignore[reportInvalidTypeForm]
    """What is trained: `lora` (an adapter), `full` (every weight) or another file of train/methods."""
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
    """Precision of the computation; `auto` is bfloat16 where the hardware has it. Trained weights stay float32."""
    examples: ExampleSettings = ExampleSettings()
    """How rows become examples."""
    batches: BatchSettings = BatchSettings()
    """Sizes of a step and of a batch."""
    schedule: ScheduleSettings = ScheduleSettings()
    """The learning rate over time."""
    optimizer: OptimizerSettings = OptimizerSettings()
    """AdamW, its weight decay and gradient clipping."""
    checkpoints: CheckpointSettings = CheckpointSettings()
    """When to save and to evaluate."""
    running: RunSettings = RunSettings()
    """Processes, memory, compilation, trackers."""
    template: TemplateName = "model"
    """Chat template: `model` for the model's own, or the name of one of ours, which the result then carries."""
