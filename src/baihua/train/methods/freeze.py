"""Train the last layers of a model and leave the others alone; the result is a whole model."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.modelfiles.shape import Shape
from baihua.train.methods import full, lora
from baihua.train.plan.memory import Trained

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

OUTPUT = "model"
PEAK_SHARE = full.PEAK_SHARE


class Config(Base):
    """Train the last decoder layers and the final norm."""

    kind: Literal["freeze"] = "freeze"
    """Trained weights are saved in the dtype that the base has on disk; the frozen ones keep their bits."""
    num_layers: int = Field(default=2, ge=1)
    """Number of decoder layers that are trained, counted from the last one, from 1."""
    train_head: bool = False
    """Whether the output layer is trained too; not possible where it is tied to the input embeddings."""


def describe(shape: Shape, config: Config) -> Trained:
    """The last layers, and the output layer where it is trained too."""
    num_layers, trains_head = config.num_layers, config.train_head
    num_weights = num_layers * shape.num_layer_weights + shape.num_head_weights * trains_head
    return Trained(num_weights=num_weights, num_layers=num_layers, is_adapter=False, trains_head=trains_head)


load, rate_factor = lora.load, full.rate_factor


def prepare(model: "PreTrainedModel", config: Config) -> "PreTrainedModel":
    """The same model with its last layers trainable, in float32 and as they are on disk."""
    from baihua.model.weights import read_tensors

    decoder: Any = model.get_decoder()
    if config.num_layers > len(decoder.layers):
        what = f"the model has {len(decoder.layers)} layers, but {config.num_layers} were requested"
        fix = f"give at most {len(decoder.layers)}, or train everything with method `full`"
        raise InputError(what, where="method.num_layers", fix=fix)
    if config.train_head and model.config.tie_word_embeddings:
        what = "the output layer of this model is tied to its input embeddings and cannot be trained without them"
        fix = "remove `train_head`, or train everything with method `full`"
        raise InputError(what, where="method.train_head", fix=fix)
    model.requires_grad_(False)
    head: list[Any] = [model.get_output_embeddings()] if config.train_head else []
    for part in (*decoder.layers[-config.num_layers :], decoder.norm, *head):
        part.requires_grad_(True)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    # Not from the model in memory, whose weights may have been rounded to bfloat16. Also, `save` replaces tensors by
    # name, and a name that the files do not have must be found before training, not after it.
    assert model.name_or_path, "`load` leaves the folder's name in the model"
    exact = read_tensors(Path(model.name_or_path), trained)
    for name, parameter in trained.items():
        parameter.data = exact[name].float().to(parameter.device)
    return model


def save(model: "PreTrainedModel", out: Path, *, base: Path, jinja: str, state: "Mapping[str, torch.Tensor]") -> None:
    """Write the base's own files with the trained weights in place of theirs."""
    from baihua.model.load import save_changed

    save_changed(base, out, state, jinja=jinja)
