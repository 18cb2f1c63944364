"""Train every weight; the result is a whole model."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from baihua.core.config import Base

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OUTPUT = "model"


class Config(Base):
    """Train all weights."""

    kind: Literal["full"] = "full"
    """Every weight is trained; needs about 16 bytes of memory per weight."""


def base_dtype(precision: str) -> Literal["float32"]:
    """Float32 always: bfloat16 weights would swallow most updates, which are smaller than their last bit."""
    del precision
    return "float32"


def prepare(model: "PreTrainedModel", config: Config) -> "PreTrainedModel":
    """The same model with all its weights trainable."""
    del config
    model.requires_grad_(True)
    return model


def save(model: "PreTrainedModel", out: Path, *, base: Path, jinja: str) -> None:
    """Write a whole model folder."""
    from baihua.model.load import save_model

    save_model(model, out, tokenizer_from=base, jinja=jinja)
