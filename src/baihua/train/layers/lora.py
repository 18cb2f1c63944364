"""LoRA on a model: matrices and rows added by PEFT, a faster layer of our own, and the adapter's files.

PEFT's own layer makes four passes over the output that `FusedLora` does not: scaling it, adding it, and both again for
the gradient. On two cores with AMX a LoRA step of SmolLM2-135M is 1.3 times as fast with it (docs/log.md, 2026-11-25).
In all else it is PEFT's layer: names, saving, merging.

T tokens, I and O inputs and outputs, R rank.
"""

# ruff: noqa: N803, N806  (names of tensors end with their shape)

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
import torch
from peft.tuners import lora
from torch import Tensor, nn
from transformers import PreTrainedModel

from baihua.core import kinds
from baihua.core.errors import InputError
from baihua.core.files import write_json
from baihua.modelfiles.folder import copy_tokenizer, fingerprint, source_of
from baihua.train.methods.lora import LoraFields


def add_matrices(model: PreTrainedModel, config: LoraFields) -> peft.PeftModel:
    """The model with low-rank matrices on its target layers, and with trainable rows of new tokens."""
    known = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    if unknown := sorted(set(config.target_modules) - known):
        # PEFT would silently train the others.
        what = kinds.unknown(unknown[0], sorted(known), what="linear layer")
        raise InputError(what, where="method.target_modules", fix="name layers of this model")
    settings = peft.LoraConfig(
        task_type=peft.TaskType.CAUSAL_LM,
        r=config.rank,
        lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType]  (an int by its type, a number by its use)
        lora_dropout=config.dropout,
        target_modules=list(config.target_modules),
        use_dora=config.use_dora,
        use_rslora=config.use_rslora,
        trainable_token_indices=None if config.first_new_token is None else _new_tokens(model, config.first_new_token),
    )
    if config.dropout == 0 and not config.use_dora and not model.config.to_dict().get("quantization_config"):
        # PEFT's documented way to use another layer class; it is not written into adapter_config.json.
        settings._register_custom_module({nn.Linear: FusedLora})
    return _in_float32(peft.PeftModel(model, settings))


def add_rows(model: PreTrainedModel, first_new_token: int) -> peft.PeftModel:
    """The model with trainable rows of new tokens and nothing else."""
    rows = _new_tokens(model, first_new_token)
    settings = peft.TrainableTokensConfig(
        task_type=peft.TaskType.CAUSAL_LM, target_modules=list(rows), token_indices=next(iter(rows.values()))
    )
    with warnings.catch_warnings():
        # It does not apply to this kind of adapter: a tied output layer follows the trained rows.
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
        return _in_float32(peft.PeftModel(model, settings))


def save_adapter(model: peft.PeftModel, out: Path, *, base: Path, jinja: str, state: Mapping[str, Tensor]) -> None:
    """Write an adapter that names its base by source and fingerprint, never by a path."""
    model.save_pretrained(str(out), save_embedding_layers=False, state_dict=dict(state))
    # The model card that PEFT adds is a form with every field empty, and names a path.
    (out / "README.md").unlink(missing_ok=True)
    file = out / "adapter_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings |= {"base_model_name_or_path": source_of(base), "revision": fingerprint(base)}
    # A set in PEFT: unsorted, each process would write another order.
    settings["target_modules"] = sorted(settings["target_modules"])
    write_json(file, settings)
    copy_tokenizer(base, out, jinja=jinja)


def _in_float32(adapted: peft.PeftModel) -> peft.PeftModel:
    """The same model with all trained parameters in float32."""
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    # Autocast brings input and matrices to one precision; PEFT's own cast would first copy every input to float32
    # and keep it for the backward pass.
    for module in adapted.modules():
        if isinstance(module, lora.LoraLayer):
            module.cast_input_dtype_enabled = False
    return adapted


def _new_tokens(model: PreTrainedModel, first: int) -> dict[str, list[int]]:
    """Rows to train, by layer; a tied output layer follows the input rows by itself."""
    num_tokens = model.config.vocab_size
    if first >= num_tokens:
        what = f"first_new_token is {first:,}, but the model has {num_tokens:,} tokens, with ids below that"
        fix = "give the model that `vocabulary` extended, and the number of tokens that it had before"
        raise InputError(what, where="method.first_new_token", fix=fix)
    layers = ["embed_tokens"] if model.config.tie_word_embeddings else ["embed_tokens", "lm_head"]
    return {layer: list(range(first, num_tokens)) for layer in layers}


class _Product(torch.autograd.Function):
    """x W^T + bias + scaling (x A^T) B^T, with gradients for x, A and B."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight_OI: Tensor, bias_O: Tensor | None, a_RI: Tensor, b_OR: Tensor, scaling: float
    ) -> Tensor:
        x_TI = x.reshape(-1, x.shape[-1])
        # Masters are float32; the products run in the precision of the layer.
        a_RI, b_OR = a_RI.to(x.dtype), b_OR.to(x.dtype)
        hidden_TR = x_TI @ a_RI.T
        y_TO = nn.functional.linear(x_TI, weight_OI, bias_O)
        y_TO.addmm_(hidden_TR, b_OR.T, alpha=scaling)
        ctx.save_for_backward(x_TI, weight_OI, a_RI, b_OR, hidden_TR)
        ctx.scaling, ctx.shape = scaling, x.shape
        return y_TO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_TI, weight_OI, a_RI, b_OR, hidden_TR = ctx.saved_tensors
        g_TO = gradients[0].reshape(-1, gradients[0].shape[-1])
        g_hidden_TR = (g_TO @ b_OR).mul_(ctx.scaling)
        g_a_RI = (g_hidden_TR.T @ x_TI).float()
        g_b_OR = (g_TO.T @ hidden_TR).float().mul_(ctx.scaling)
        g_x = (g_TO @ weight_OI).addmm_(g_hidden_TR, a_RI).view(ctx.shape) if ctx.needs_input_grad[0] else None
        return g_x, None, None, g_a_RI, g_b_OR, None


class FusedLora(lora.Linear):
    """PEFT's LoRA layer over a plain linear layer, without dropout and variants."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's output; other states (merged, disabled, several adapters) are left to PEFT."""
        name = self.active_adapters[0] if len(self.active_adapters) == 1 else ""
        weight = self.get_base_layer().weight
        is_plain = not (self.disable_adapters or self.merged or args or kwargs) and name in self.lora_A
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        if not is_plain or {x.dtype, weight.dtype} != {dtype}:
            return super().forward(x, *args, **kwargs)
        a, b, bias = self.lora_A[name].weight, self.lora_B[name].weight, self.get_base_layer().bias
        return _Product.apply(x, weight, bias, a, b, self.scaling[name])  # pyright: ignore[reportReturnType]
