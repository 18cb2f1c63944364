"""Train every weight; the result is a whole model."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from baihua.core.config import Base
from baihua.modelfiles.folder import Precision
from baihua.modelfiles.shape import Shape
from baihua.train.plan.memory import Trained

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

OUTPUT = "model"
# Plain transformers reaches about 0.30 of an A100, the best tools 0.50 to 0.57; not yet measured with Baihua.
PEAK_SHARE = 0.35


class Config(Base):
    """Train all weights."""

    kind: Literal["full"] = "full"
    """Every weight is trained; needs about 16 bytes of memory per weight."""


def describe(shape: Shape, config: Config) -> Trained:
    """Everything."""
    ends = {"trains_head": True, "trains_embeddings": True}
    return Trained(num_weights=shape.num_weights, num_layers=shape.num_layers, is_adapter=False, **ends)


def load(folder: Path, *, precision: Precision, device: "torch.device") -> "PreTrainedModel":
    """Float32 always: bfloat16 weights would lose most updates, which are smaller than their last bit."""
    from baihua.model.load import load_model

    return load_model(folder, dtype="float32")


def prepare(model: "PreTrainedModel", config: Config) -> "PreTrainedModel":
    """The same model with all its weights trainable."""
    model.requires_grad_(True)
    return model


def rate_factor(name: str, config: Base) -> float:
    """One learning rate for all weights."""
    return 1.0


def save(model: "PreTrainedModel", out: Path, *, base: Path, jinja: str, state: "Mapping[str, torch.Tensor]") -> None:
    """Write a whole model folder."""
    from baihua.model.load import save_model

    save_model(model, out, tokenizer_from=base, jinja=jinja, state=dict(state))
