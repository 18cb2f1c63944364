"""Train every weight; the result is a whole model."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from baihua.core.config import Base

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from baihua.modelfiles.folder import Precision

OUTPUT = "model"


class Config(Base):
    """Train all weights."""

    kind: Literal["full"] = "full"
    """Every weight is trained; needs about 16 bytes of memory per weight."""


def load(folder: Path, *, precision: "Precision", device: "torch.device") -> "PreTrainedModel":
    """Float32 always: bfloat16 weights would swallow most updates, which are smaller than their last bit."""
    from baihua.model.load import load_model

    del precision, device
    return load_model(folder, dtype="float32")


def prepare(model: "PreTrainedModel", config: Config) -> "PreTrainedModel":
    """The same model with all its weights trainable."""
    del config
    model.requires_grad_(True)
    return model


def rate_factor(name: str, config: Config) -> float:
    """One learning rate for all."""
    del name, config
    return 1.0


def save(model: "PreTrainedModel", out: Path, *, base: Path, jinja: str, state: "Mapping[str, torch.Tensor]") -> None:
    """Write a whole model folder."""
    from baihua.model.load import save_model

    save_model(model, out, tokenizer_from=base, jinja=jinja, state=dict(state))
