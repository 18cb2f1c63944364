"""Train small matrices beside frozen ones (LoRA); the result is an adapter in PEFT's layout."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from baihua.core.config import Base
from baihua.core.jsonl import write_json

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from baihua.model.load import Precision

OUTPUT = "adapter"
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Config(Base):
    """Train low-rank matrices, and where wanted the rows of new tokens."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(default=16, ge=1)
    """Inner width of the added matrices, from 1."""
    alpha: float = Field(default=32.0, gt=0)
    """Strength of the added matrices: their product counts alpha/rank times (alpha/sqrt(rank) with rslora)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of inputs of the added matrices that is dropped in training, 0 to 1; above 0 costs a fifth of the speed."""
    target_modules: tuple[str, ...] = LINEARS
    """Names of the linear layers that get matrices."""
    use_dora: bool = False
    """Whether magnitudes of the frozen matrices are trained too (DoRA); slower, often better at low rank."""
    use_rslora: bool = False
    """Whether to scale by alpha/sqrt(rank), which keeps high ranks learning (rsLoRA)."""
    first_new_token: int | None = Field(default=None, ge=0)
    """Token id from which on the rows of the vocabulary are trained as well; none by default."""


def base_dtype(precision: "Precision") -> "Precision":
    """The frozen weights are held in the precision of computing: nothing is ever added to them."""
    return precision


def prepare(model: "PreTrainedModel", config: Config) -> "PeftModel":
    """The model with added matrices, which are float32 whatever the base's dtype."""
    import peft

    lora = peft.LoraConfig(
        task_type=peft.TaskType.CAUSAL_LM,
        r=config.rank,
        lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType]  (an int by its type, a number by its use)
        lora_dropout=config.dropout,
        target_modules=list(config.target_modules),
        use_dora=config.use_dora,
        use_rslora=config.use_rslora,
        trainable_token_indices=_new_tokens(model, config.first_new_token),
    )
    adapted = peft.PeftModel(model, lora)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    # Autocast brings input and matrices to one precision; peft's own cast would first copy every input to float32
    # and keep it for the backward pass.
    for module in adapted.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.cast_input_dtype_enabled = False
    return adapted


def save(model: "PeftModel", out: Path, *, base: Path, jinja: str) -> None:
    """Write an adapter that names its base by source and fingerprint, never by a path."""
    from baihua.model.load import fingerprint, save_tokenizer, source_of

    model.save_pretrained(str(out), save_embedding_layers=False)
    # The model card that peft adds is a form with every field empty, and names a path.
    (out / "README.md").unlink(missing_ok=True)
    file = out / "adapter_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = source_of(base)
    settings["revision"] = fingerprint(base)
    # A set to peft: without sorting, each process would write another order.
    settings["target_modules"] = sorted(settings["target_modules"])
    write_json(file, settings)
    save_tokenizer(base, out, jinja=jinja)


def _new_tokens(model: "PreTrainedModel", first: int | None) -> dict[str, list[int]] | None:
    """Rows to train, by layer; a tied output layer follows the input rows by itself."""
    if first is None:
        return None
    ids = list(range(first, model.config.vocab_size))
    layers = ["embed_tokens"] if model.config.tie_word_embeddings else ["embed_tokens", "lm_head"]
    return {layer: ids for layer in layers}
