"""Train the rows of new tokens and nothing else; the result is an adapter in PEFT's layout."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from baihua.core.config import Base
from baihua.train.methods import lora

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

    from baihua.modelfiles.folder import Precision

OUTPUT = "adapter"


class Config(Base):
    """Train new rows of the vocabulary, for example before anything else is allowed to move."""

    kind: Literal["embeddings"] = "embeddings"
    """Rows of the input embeddings and, where it is not tied to them, of the output layer."""
    first_new_token: int = Field(ge=0)
    """Token id from which on rows are trained; those below it stay as they are."""


def load(folder: Path, *, precision: "Precision", device: "torch.device") -> "PreTrainedModel":
    """The frozen weights in the precision of computing."""
    return lora.load(folder, precision=precision, device=device)


def prepare(model: "PreTrainedModel", config: Config) -> "PeftModel":
    """The model with the new rows apart from its matrices, in float32."""
    import peft

    rows = lora.new_tokens(model, config.first_new_token)
    assert rows, "there is at least one new token"
    wanted = peft.TrainableTokensConfig(
        task_type=peft.TaskType.CAUSAL_LM,
        target_modules=list(rows),
        token_indices=next(iter(rows.values())),
    )
    with warnings.catch_warnings():
        # Not so for this kind of adapter: a tied output layer follows the trained rows.
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
        return lora.make_float32(peft.PeftModel(model, wanted))


def rate_factor(name: str, config: Config) -> float:
    """One learning rate for all."""
    del name, config
    return 1.0


save = lora.save
