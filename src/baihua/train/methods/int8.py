"""LoRA over frozen weights of 8 bits (LLM.int8(), arXiv 2208.07339), as alpaca-lora; the result is an adapter."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from baihua.core.errors import InputError
from baihua.modelfiles.folder import Precision
from baihua.modelfiles.shape import Shape
from baihua.train.methods import lora
from baihua.train.plan.memory import Trained

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

OUTPUT = "adapter"
# LoRA's divided by 2.5: bitsandbytes issue 465 reports 2 to 3 times slower.
PEAK_SHARE = 0.14
# Columns of the input with a larger value are multiplied in 16 bits: section 3 of the paper finds that the few
# outliers of large models lie above 6 and that quantizing them ruins the rest.
OUTLIER = 6.0


class Config(lora.LoraFields):
    """Train low-rank matrices over a base of half the memory."""

    kind: Literal["int8"] = "int8"
    """Linear layers take one byte per weight; embeddings, norms and output layer keep the precision of training."""


def describe(shape: Shape, config: Config) -> Trained:
    """As LoRA; bitsandbytes' layers of 8 bits keep their inputs whether they have a matrix or not."""
    return replace(lora.describe(shape, config, keeping_inputs=lora.LINEARS), bytes_per_frozen_weight=1.0)


def load(folder: Path, *, precision: Precision, device: "torch.device") -> "PreTrainedModel":
    """The linear layers of the decoder in 8 bits."""
    from baihua.model.load import import_bitsandbytes, load_model

    import_bitsandbytes("a base with weights of 8 bits", where="method.kind")
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=OUTLIER)
    return load_model(folder, dtype=precision, quantization=quantization, device=device)


def prepare(model: "PreTrainedModel", config: Config) -> "PeftModel":
    """The model with added matrices; their magnitudes (DoRA) need a GPU."""
    if config.use_dora and model.device.type == "cpu":
        # There, peft 0.21 loses the scales of 8-bit weights when it reads their magnitudes.
        fix = "use method `qlora` or `lora`, or remove `use_dora`"
        raise InputError("DoRA over weights of 8 bits does not work on a CPU", where="method.use_dora", fix=fix)
    return lora.prepare(model, config)


rate_factor, save = lora.rate_factor, lora.save
