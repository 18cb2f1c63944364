"""Training methods, one file each; the file's name is the method's `kind` in a recipe.

A method also says what it trains, for the estimate of memory and time, so that nothing else knows methods by name.
torch and peft are imported inside its functions: a recipe is validated without them.
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable

from baihua.core import kinds
from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.modelfiles.shape import Shape
from baihua.train.plan.memory import Trained

METHODS = "baihua.train.methods"


@runtime_checkable
class Method(Protocol):
    """The names that a file of this folder defines."""

    Config: type[Base]
    OUTPUT: Literal["adapter", "model"]
    """The kind of artifact that it makes."""
    PEAK_SHARE: float
    """Share of a GPU's peak that a training reaches, recomputation included; with its source."""
    describe: Callable[[Shape, Any], Trained]
    """(shape, config): what is trained in a model of this shape, and how the rest is held in memory."""
    load: Callable[..., Any]
    """(folder, *, precision, device): the base model, its frozen weights held as the method holds them."""
    prepare: Callable[[Any, Any], Any]
    """(model, config): the model with exactly those parameters trainable that are trained, in float32."""
    rate_factor: Callable[[str, Any], float]
    """(name, config): the factor of the learning rate for a parameter."""
    save: Callable[..., None]
    """(model, out, *, base, jinja, state): write the result with tokenizer and chat template.

    `state` holds the trained tensors by name, complete and on the CPU; the model may hold shards only.
    """


def find_method(kind: str) -> Method:
    """The method of this kind; an InputError for an extension that does not define all of `Method`."""
    module = kinds.find(METHODS, kind)
    if not isinstance(module, Method):
        names = "OUTPUT, PEAK_SHARE, Config, describe, load, prepare, rate_factor, save"
        what = f"the training method {kind!r} does not define all of: {names}"
        fix = "copy the missing ones from a file of train/methods; train/methods/__init__.py describes each"
        raise InputError(what, where=str(module.__file__), fix=fix)
    return module
