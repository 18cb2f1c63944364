"""What a training is told: what decides the weights, and how the work is done."""

from dataclasses import dataclass

from baihua.modelfiles.folder import Precision
from baihua.train import optimizer, schedule
from baihua.train.examples.batches import Order
from baihua.train.parallel.sharding import Kind as Parallel


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that decides the weights, but for model and data."""

    order: Order
    num_steps: int
    learning_rate: float
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    optimizer_kind: optimizer.Kind = "adamw"
    schedule_kind: schedule.Kind = "cosine"
    num_warmup_steps: int = 0
    precision: Precision = "float32"
    eval_steps: int = 0
    """Steps between two measurements on the held-out examples; 0 measures at the end only."""
    keep_best: bool = False
    """Whether the weights of the best measurement are the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How the work is done; nothing here changes more than the last bits of the weights."""

    num_tokens_per_batch: int = 2048
    save_steps: int = 200
    parallel: Parallel = "ddp"
    uses_checkpointing: bool = False
    """Whether activations are computed again on the way back instead of kept."""
    compiles: bool = False
    """Whether each layer is compiled, which takes a while at the start."""
    trackers: tuple[str, ...] = ()
