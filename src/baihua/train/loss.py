"""Cross entropy on the targets alone, in the precision that was chosen.

B rows, T tokens, N targets, V vocabulary.
"""

# ruff: noqa: N806  (names of tensors end with their shape)

import math

import torch
from torch import nn

from baihua.core.errors import RunError
from baihua.core.log import logger
from baihua.model.load import Precision
from baihua.train.batches import Batch


class TargetLoss(nn.Module):
    """A model together with its loss, so that what wraps modules for several processes wraps both."""

    def __init__(self, model: nn.Module, *, precision: Precision) -> None:
        super().__init__()
        self.model = model
        self.precision = precision

    def forward(self, batch: Batch) -> torch.Tensor:
        """Nats, summed over the batch's targets, float32; divide by the number of targets of the whole step."""
        device = batch.input_ids_BT.device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
            # A mask as `logits_to_keep` gives logits for its positions only. The head costs 18 % of a step
            # at 49,152 tokens, 30 % at 69,152 (toolchain.md, section 4), and most positions are prompt.
            logits_NV = self.model(
                input_ids=batch.input_ids_BT, logits_to_keep=batch.is_answered_BT, use_cache=False
            ).logits
        return nn.functional.cross_entropy(logits_NV.float(), batch.labels_N, reduction="sum")


def bits_per_char(nats: float, num_chars: int) -> float:
    """Bits that the model needs for a character; comparable across vocabularies, unlike perplexity."""
    if num_chars == 0:
        raise RunError("the answers have no characters, so bits per character are not defined")
    return nats / math.log(2) / num_chars


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """What to compute in: `auto` is bfloat16 where the hardware multiplies it natively, else float32."""
    is_native = has_bfloat16(device)
    if wanted == "bfloat16" and not is_native:
        logger.warning(
            "this machine has no bfloat16 arithmetic: training will be slower than in float32 (silence: precision=auto)"
        )
    if wanted == "auto":
        return "bfloat16" if is_native else "float32"
    return "bfloat16" if wanted == "bfloat16" else "float32"


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 natively."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    facts = torch.cpu.get_capabilities()
    return bool(facts.get("avx512_bf16") or facts.get("amx_bf16") or facts.get("bf16"))
