"""Train small matrices beside frozen ones (LoRA, arXiv 2106.09685); the result is an adapter in PEFT's layout.

Also DoRA (2402.09353), rsLoRA (2312.03732) and LoRA+ (2402.12354), by one field each.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from baihua.core import kinds
from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.core.files import write_json

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

    from baihua.modelfiles.folder import Precision

OUTPUT = "adapter"
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoraFields(Base):
    """The matrices that are added; shared by the methods that differ only in how they hold the frozen weights."""

    rank: int = Field(default=16, ge=1)
    """Inner width of the added matrices, from 1."""
    alpha: float = Field(default=32.0, gt=0)
    """Strength of the added matrices: their product counts alpha/rank times (alpha/sqrt(rank) with rslora)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of inputs of the added matrices that is dropped in training, 0 to 1; above 0 costs a fifth of the speed."""
    target_modules: tuple[str, ...] = Field(default=LINEARS, min_length=1)
    """Names of the linear layers that get matrices."""
    use_dora: bool = False
    """Whether magnitudes of the frozen matrices are trained too (DoRA); slower, often better at low rank."""
    use_rslora: bool = False
    """Whether to scale by alpha/sqrt(rank), which keeps high ranks learning (rsLoRA)."""
    lora_plus_ratio: float = Field(default=1.0, ge=1)
    """How many times faster the second matrix learns than the first (LoRA+); its paper found 16 good, 1 is LoRA."""
    first_new_token: int | None = Field(default=None, ge=0)
    """Token id from which on the rows of the vocabulary are trained as well; none by default."""


class Config(LoraFields):
    """Train low-rank matrices, and where wanted the rows of new tokens."""

    kind: Literal["lora"] = "lora"
    """The frozen weights are held in the precision of computing: nothing is ever added to them."""


def load(folder: Path, *, precision: "Precision", device: "torch.device") -> "PreTrainedModel":
    """The frozen weights in the precision of computing."""
    from baihua.model.load import load_model

    del device
    return load_model(folder, dtype=precision)


def prepare(model: "PreTrainedModel", config: LoraFields) -> "PeftModel":
    """The model with added matrices, which are float32 whatever the base's dtype."""
    import peft
    from torch import nn

    _check_targets(model, config.target_modules)

    from baihua.train.layers.lora import FusedLora

    wanted = peft.LoraConfig(
        task_type=peft.TaskType.CAUSAL_LM,
        r=config.rank,
        lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType]  (an int by its type, a number by its use)
        lora_dropout=config.dropout,
        target_modules=list(config.target_modules),
        use_dora=config.use_dora,
        use_rslora=config.use_rslora,
        trainable_token_indices=new_tokens(model, config.first_new_token),
    )
    if config.dropout == 0 and not config.use_dora and not model.config.to_dict().get("quantization_config"):
        # PEFT's documented way to bring a layer class of one's own; it is not written into adapter_config.json.
        wanted._register_custom_module({nn.Linear: FusedLora})
    return make_float32(peft.PeftModel(model, wanted))


def make_float32(adapted: "PeftModel") -> "PeftModel":
    """The same model with everything that is trained in float32."""
    import peft

    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    # Autocast brings input and matrices to one precision; peft's own cast would first copy every input to float32
    # and keep it for the backward pass.
    for module in adapted.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.cast_input_dtype_enabled = False
    return adapted


def rate_factor(name: str, config: LoraFields) -> float:
    """LoRA+ lets the second matrices learn faster."""
    return config.lora_plus_ratio if ".lora_B." in name else 1.0


def save(model: "PeftModel", out: Path, *, base: Path, jinja: str, state: "Mapping[str, torch.Tensor]") -> None:
    """Write an adapter that names its base by source and fingerprint, never by a path."""
    from baihua.modelfiles.folder import copy_tokenizer, fingerprint, source_of

    model.save_pretrained(str(out), save_embedding_layers=False, state_dict=dict(state))
    # The model card that peft adds is a form with every field empty, and names a path.
    (out / "README.md").unlink(missing_ok=True)
    file = out / "adapter_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = source_of(base)
    settings["revision"] = fingerprint(base)
    # A set to peft: without sorting, each process would write another order.
    settings["target_modules"] = sorted(settings["target_modules"])
    write_json(file, settings)
    copy_tokenizer(base, out, jinja=jinja)


def new_tokens(model: "PreTrainedModel", first: int | None) -> dict[str, list[int]] | None:
    """Rows to train, by layer; a tied output layer follows the input rows by itself."""
    if first is None:
        return None
    num_tokens = model.config.vocab_size
    if first >= num_tokens:
        raise InputError(
            f"the model has {num_tokens:,} tokens, so no token has an id from {first:,} on",
            where="method.first_new_token",
            fix="give the model that `vocabulary` extended, and the number of tokens it had before",
        )
    ids = list(range(first, num_tokens))
    layers = ["embed_tokens"] if model.config.tie_word_embeddings else ["embed_tokens", "lm_head"]
    return {layer: ids for layer in layers}


def _check_targets(model: "PreTrainedModel", names: tuple[str, ...]) -> None:
    """Refuse a name that no layer has: PEFT would train the others and say nothing."""
    from torch import nn

    known = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    unknown = sorted(set(names) - known)
    if unknown:
        raise InputError(
            kinds.unknown(unknown[0], sorted(known), what="linear layer"),
            where="method.target_modules",
            fix="name layers of this model",
        )
