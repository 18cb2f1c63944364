"""Training methods, one file each; the file's name is the method's `kind` in a recipe.

A method also says what it trains, for the estimate of memory and time, so that nothing else knows methods by name.
torch and peft are imported inside its functions: a recipe is validated without them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from baihua.core import kinds
from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.modelfiles.folder import Precision
from baihua.modelfiles.shape import Shape
from baihua.train.plan.memory import Trained

if TYPE_CHECKING:
    import torch

METHODS = "baihua.train.methods"


@runtime_checkable
class Method(Protocol):
    """The names that a file of this folder defines."""

    Config: type[Base]
    OUTPUT: Literal["adapter", "model"]
    """The kind of artifact that it makes."""
    PEAK_SHARE: float
    """Share of a GPU's peak that a training reaches, recomputation included; with its source."""

    @staticmethod
    def describe(shape: Shape, config: Any) -> Trained:
        """What is trained in a model of this shape, and how the rest is held in memory."""
        ...

    @staticmethod
    def load(folder: Path, *, precision: Precision, device: "torch.device") -> Any:
        """The base model, its frozen weights held as the method holds them."""
        ...

    @staticmethod
    def prepare(model: Any, config: Any) -> Any:
        """The model with exactly those parameters trainable that the method trains, in float32."""
        ...

    @staticmethod
    def rate_factor(name: str, config: Any) -> float:
        """The factor of the learning rate for a parameter."""
        ...

    @staticmethod
    def save(model: Any, out: Path, *, base: Path, jinja: str, state: "Mapping[str, torch.Tensor]") -> None:
        """Write the result with tokenizer and chat template.

        `state` holds the trained tensors by name, complete and on the CPU; the model may hold shards only.
        """
        ...


def find_method(kind: str) -> Method:
    """The method of this kind; an InputError for an extension that does not define all of `Method`."""
    module = kinds.find(METHODS, kind)
    if not isinstance(module, Method):
        raise InputError(
            f"the training method {kind!r} does not define all of: OUTPUT, PEAK_SHARE, Config, describe, load, "
            "prepare, rate_factor, save",
            where=str(module.__file__),
            fix="copy the missing ones from a file of train/methods; train/methods/__init__.py describes each",
        )
    return module
