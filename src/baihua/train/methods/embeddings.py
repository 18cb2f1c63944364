"""Train the rows of new tokens and nothing else; the result is an adapter in PEFT's layout."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from baihua.core.config import Base
from baihua.modelfiles.shape import Shape
from baihua.train.methods import full, lora
from baihua.train.plan.memory import Trained

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

OUTPUT = "adapter"
PEAK_SHARE = lora.PEAK_SHARE


class Config(Base):
    """Train new rows of the vocabulary, for example before any other weight is trained."""

    kind: Literal["embeddings"] = "embeddings"
    """Rows of the input embeddings and, unless it is tied to them, of the output layer."""
    first_new_token: int = Field(ge=0)
    """Token id from which on rows are trained; those below it stay as they are."""


def describe(shape: Shape, config: Config) -> Trained:
    """Rows of new tokens; the backward pass visits every layer to reach those of the input."""
    num_weights = lora.new_rows(shape, config.first_new_token) * shape.width
    return Trained(num_weights=num_weights, num_layers=shape.num_layers, is_adapter=True, has_new_rows=True)


load, rate_factor, save = lora.load, full.rate_factor, lora.save


def prepare(model: "PreTrainedModel", config: Config) -> "PeftModel":
    """The model with the new rows separate from its matrices, in float32."""
    from baihua.train.layers.lora import add_rows

    return add_rows(model, config.first_new_token)
