"""LoRA beside frozen weights of 4 bits (QLoRA, arXiv 2305.14314); the result is an adapter."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from baihua.train.methods import lora

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from baihua.modelfiles.folder import Precision

OUTPUT = "adapter"


class Config(lora.LoraFields):
    """Train low-rank matrices over a base of a quarter of the memory."""

    kind: Literal["qlora"] = "qlora"
    """Linear layers take 4.13 bits a weight (nf4, scales quantized again), the rest as many as the precision."""


def load(folder: Path, *, precision: "Precision", device: "torch.device") -> "PreTrainedModel":
    """The linear layers of the decoder in 4 bits, multiplied in the precision of computing."""
    from baihua.model.load import DTYPES, import_bitsandbytes, load_model

    bitsandbytes = import_bitsandbytes("a base with weights of 4 bits", where="method.kind")
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=DTYPES[precision],
    )
    model = load_model(folder, dtype=precision, quantization=quantization, device=device)
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            # With it, bitsandbytes 0.50 on a CPU with avx512_bf16 repacks the weights at the first evaluation, for a
            # product that has no gradient: training goes on with wrong ones, and widths that are no multiple of 64
            # stop it. Price: evaluation on such a CPU is slower.
            module.support_avx512bf16_for_cpu = False  # pyright: ignore[reportArgumentType]  (a plain attribute)
    return model


prepare, rate_factor, save = lora.prepare, lora.rate_factor, lora.save
