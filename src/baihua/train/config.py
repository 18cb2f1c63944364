"""The groups of settings that training stages share; nothing heavy is imported here, so a recipe is checked quickly."""

from typing import Annotated, Literal

from pydantic import Field

from baihua.core.config import Base, execution


class ExampleSettings(Base):
    """How rows become examples."""

    train_on: Literal["answers", "last_answer", "everything"] = "answers"
    """Which tokens are learnt: all answers with their ends of turn, the last answer alone, or everything."""
    over_long: Literal["split", "drop", "refuse"] = "split"
    """What becomes of rows above `max_length`: split between turns (never inside one), dropped, or an error."""
    num_shown: Annotated[int, Field(ge=0)] = execution(3)
    """Examples shown, coloured, before training starts; 0 shows none."""


class BatchSettings(Base):
    """How much goes into an update, and how much a device reads at once."""

    num_rows_per_step: int = Field(default=16, ge=1)
    """Examples per update, however many processes share them."""
    num_tokens_per_step: int | None = Field(default=None, ge=1)
    """Tokens per update at most, instead of `num_rows_per_step`."""
    num_tokens_per_batch: Annotated[int | None, Field(ge=1)] = execution(None)
    """Most tokens that a device reads at once, at least `max_length`; by default 2,048, on a GPU 8,192."""


class OptimizerSettings(Base):
    """AdamW's settings beside the learning rate."""

    kind: Literal["adamw", "adamw_8bit"] = "adamw"
    """`adamw`, or `adamw_8bit` of bitsandbytes, which keeps its moments in 2 bytes a weight instead of 8."""
    weight_decay: float = Field(default=0.0, ge=0)
    """How strongly matrices are pulled to zero, per step and unit of learning rate."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients longer than this are shortened to it."""


class CheckpointSettings(Base):
    """When to save and to measure."""

    save_steps: Annotated[int, Field(ge=1)] = execution(200)
    """Updates between two checkpoints, from 1."""
    eval_steps: int = Field(default=0, ge=0)
    """Updates between two measurements on `heldout`; 0 measures at the end only."""
    keep_best: bool = False
    """Whether the result is the weights with the best bits per character on `heldout` instead of the last ones."""


class RunSettings(Base):
    """How the work is done here; nothing in it changes more than the last bits of the result."""

    parallel: Literal["ddp", "fsdp"] = execution("ddp")
    """With several processes: a copy of the model on each (`ddp`), or a shard of it (`fsdp`)."""
    gradient_checkpointing: bool | Literal["auto"] = execution("auto")
    """Compute activations again on the way back: a third more work, much less memory; `auto` where it is needed."""
    compile: bool = execution(False)
    """Compile the layers first; needs a C++ compiler, or Triton on a GPU, and a minute."""
    trackers: tuple[Literal["tensorboard", "wandb", "swanlab", "trackio"], ...] = execution(())
    """Where figures go beside `metrics.jsonl`; each must be installed."""
