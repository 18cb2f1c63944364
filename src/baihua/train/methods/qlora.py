"""LoRA over frozen weights of 4 bits (QLoRA, arXiv 2305.14314); the result is an adapter."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from baihua.modelfiles.folder import Precision
from baihua.modelfiles.shape import Shape
from baihua.train.methods import lora
from baihua.train.plan.memory import Trained

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

OUTPUT = "adapter"
# LoRA's divided by 1.6: LitGPT is 1.56 times slower than with LoRA, bitsandbytes issue 465 reports 1.2 to 2 times.
PEAK_SHARE = 0.22


class Config(lora.LoraFields):
    """Train low-rank matrices over a base of a quarter of the memory."""

    kind: Literal["qlora"] = "qlora"
    """Linear layers take 4.13 bits per weight (nf4, scales quantized again), the rest the precision of training."""


def describe(shape: Shape, config: Config) -> Trained:
    """As LoRA; half a byte per weight, 1 byte per 64 weights and 4 per 256 of those (section 3 of the paper)."""
    return replace(lora.describe(shape, config), bytes_per_frozen_weight=0.5 + 1 / 64 + 4 / (64 * 256))


def load(folder: Path, *, precision: Precision, device: "torch.device") -> "PreTrainedModel":
    """The linear layers of the decoder in 4 bits, multiplied in the precision of training."""
    from baihua.model.load import DTYPES, import_bitsandbytes, load_model

    bitsandbytes = import_bitsandbytes("a base with weights of 4 bits", where="method.kind")
    from transformers import BitsAndBytesConfig

    nf4: dict[str, Any] = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=DTYPES[precision], **nf4)
    model = load_model(folder, dtype=precision, quantization=quantization, device=device)
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            # With it, bitsandbytes 0.50 on a CPU with avx512_bf16 repacks the weights at the first evaluation, for a
            # product that has no gradient: training would go on with wrong ones, and widths that are not a multiple
            # of 64 would stop it. Price: evaluation on such a CPU is slower.
            module.support_avx512bf16_for_cpu = False  # pyright: ignore[reportArgumentType]  (a plain attribute)
    return model


prepare, rate_factor, save = lora.prepare, lora.rate_factor, lora.save
