"""LoRA (arXiv 2106.09685): train small matrices added to frozen ones; the result is an adapter in PEFT's layout.

Also DoRA (2402.09353), rsLoRA (2312.03732) and LoRA+ (2402.12354), by one field each.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from baihua.core.config import Base
from baihua.modelfiles.folder import Precision
from baihua.modelfiles.shape import Shape
from baihua.train.plan.memory import Trained

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

OUTPUT = "adapter"
# Plain transformers reaches about 0.30 of an A100, the best tools 0.50 to 0.57; not yet measured with Baihua.
PEAK_SHARE = 0.35
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoraFields(Base):
    """The added matrices; shared by the methods that differ only in how they hold the frozen weights."""

    rank: int = Field(default=16, ge=1)
    """Inner width of the added matrices, from 1."""
    alpha: float = Field(default=32.0, gt=0)
    """Scale of the added matrices: their product is multiplied by alpha/rank (alpha/sqrt(rank) with rslora)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of inputs of the added matrices that is dropped in training, 0 to 1; above 0 costs a fifth of the speed."""
    target_modules: tuple[str, ...] = Field(default=LINEARS, min_length=1)
    """Names of the linear layers that get matrices."""
    use_dora: bool = False
    """Whether magnitudes of the frozen matrices are trained too (DoRA); slower, often better at low rank."""
    use_rslora: bool = False
    """Whether to scale by alpha/sqrt(rank), which keeps high ranks learning (rsLoRA)."""
    lora_plus_ratio: float = Field(default=1.0, ge=1)
    """Ratio of the learning rates of the second matrix and the first (LoRA+); its paper found 16 good, 1 is LoRA."""
    first_new_token: int | None = Field(default=None, ge=0)
    """Token id from which on the rows of the vocabulary are trained as well; none by default."""


class Config(LoraFields):
    """Train low-rank matrices, and optionally the rows of new tokens."""

    kind: Literal["lora"] = "lora"
    """The frozen weights are held in the precision of training: nothing is ever added to them."""


def describe(shape: Shape, config: LoraFields, *, keeping_inputs: Collection[str] = ()) -> Trained:
    """Matrices on each target of every layer, and rows of new tokens.

    `keeping_inputs` names linear layers that keep their inputs for the backward pass even without a matrix.
    """
    widths = {name: shape.linears[name] for name in config.target_modules if name in shape.linears}
    if config.dropout:
        # Each matrix has its own input with values dropped, and keeps the mask (on a CPU in the same precision).
        num_kept = 2 * sum(inputs for inputs, _ in widths.values())
    else:
        # Matrices that read the same input share it; that of o_proj is the output of attention, kept in any case.
        read = {*widths, *keeping_inputs}
        num_kept = shape.width * (bool(read & {"q_proj", "k_proj", "v_proj"}) + bool(read & {"gate_proj", "up_proj"}))
        num_kept += shape.mlp_width * ("down_proj" in read)
    num_rows = new_rows(shape, config.first_new_token)
    num_added = config.rank * sum(inputs + outputs for inputs, outputs in widths.values())
    return Trained(
        num_weights=shape.num_layers * num_added + num_rows * shape.width,
        num_layers=shape.num_layers,
        is_adapter=True,
        num_kept=num_kept + config.rank * len(widths),
        has_new_rows=num_rows > 0,
    )


def new_rows(shape: Shape, first_new_token: int | None) -> int:
    """Trained rows of the input embeddings and, unless it is tied to them, of the output layer."""
    num_tokens = 0 if first_new_token is None else max(0, shape.num_tokens - first_new_token)
    return num_tokens * (1 if shape.is_tied else 2)


def load(folder: Path, *, precision: Precision, device: "torch.device") -> "PreTrainedModel":
    """The frozen weights in the precision of training."""
    from baihua.model.load import load_model

    return load_model(folder, dtype=precision)


def prepare(model: "PreTrainedModel", config: LoraFields) -> "PeftModel":
    """The model with added matrices, which are float32 whatever the base's dtype."""
    from baihua.train.layers.lora import add_matrices

    return add_matrices(model, config)


def rate_factor(name: str, config: LoraFields) -> float:
    """LoRA+ lets the second matrices learn faster."""
    return config.lora_plus_ratio if ".lora_B." in name else 1.0


def save(model: "PeftModel", out: Path, *, base: Path, jinja: str, state: "Mapping[str, torch.Tensor]") -> None:
    """Write an adapter that names its base by source and fingerprint, never by a path."""
    from baihua.train.layers.lora import save_adapter

    save_adapter(model, out, base=base, jinja=jinja, state=state)
