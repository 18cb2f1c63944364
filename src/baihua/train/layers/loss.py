"""Cross entropy on the targets alone, a slice of them at a time.

T tokens, N targets, D width, V vocabulary.
"""

# ruff: noqa: N803, N806  (names of tensors end with their shape)

import math
from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from baihua.core.errors import RunError
from baihua.modelfiles.folder import Precision
from baihua.train.examples.batches import PackedBatch
from baihua.train.plan.memory import NUM_LOGITS_PER_LONG_SLICE, NUM_LOGITS_PER_SLICE


class TargetLoss(nn.Module):
    """A model together with its loss, so that DDP and FSDP wrap both."""

    def __init__(self, model: nn.Module, *, precision: Precision) -> None:
        super().__init__()
        self.model, self.precision = model, precision

    def forward(self, batch: PackedBatch) -> Tensor:
        """Nats, summed over the batch's targets, float32; divide by the number of targets of the whole step."""
        causal, is_mixed = causal_model(self.model), self.precision == "bfloat16"
        with torch.autocast(batch.ids_T.device.type, dtype=torch.bfloat16, enabled=is_mixed):
            hidden_TD = causal.get_decoder()(
                input_ids=batch.ids_T[None],
                position_ids=batch.positions_T[None],
                cu_seq_lens_q=batch.ends,
                max_length_q=batch.longest,
                use_cache=False,
            ).last_hidden_state[0]
            # The head costs 18 % of a step at 49,152 tokens, 30 % at 69,152, and most positions are prompt.
            head = cast(nn.Module, causal.get_output_embeddings())
            return target_loss(head, hidden_TD[batch.answered_N], batch.labels_N)


def target_loss(head: nn.Module, hidden_ND: Tensor, labels_N: Tensor) -> Tensor:
    """Cross entropy of a head's logits, summed, float32, without ever holding all the logits.

    The head may be any module that returns logits: plain, tied, with added matrices or rows. The product runs in the
    precision of autocast, the softmax in float32. Gradients are computed slice by slice in the forward pass, so that
    nothing is computed twice.
    """
    trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
    if len(labels_N) == 0:
        # Nothing is trained here, but the synchronization of gradients needs some.
        return (hidden_ND.sum() + sum(parameter.sum() for parameter in trained)).float() * 0.0
    return cast(Tensor, _Slices.apply(head, labels_N, hidden_ND, *trained))


class _Slices(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, head: nn.Module, labels_N: Tensor, hidden_ND: Tensor, *trained: Tensor) -> Tensor:
        is_learning = any(ctx.needs_input_grad)
        nats = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        g_hidden_ND = torch.empty_like(hidden_ND) if is_learning else None
        g_trained = [torch.zeros_like(parameter) for parameter in trained] if is_learning else []
        weight = next(parameter for name, parameter in head.named_parameters() if name.endswith("weight"))
        is_small = hidden_ND.device.type == "cpu" and not weight.requires_grad
        length = max(1, (NUM_LOGITS_PER_SLICE if is_small else NUM_LOGITS_PER_LONG_SLICE) // weight.shape[0])
        for start in range(0, len(labels_N), length):
            with torch.set_grad_enabled(is_learning):
                end = min(start + length, len(labels_N))
                piece_ND = hidden_ND[start:end].detach().requires_grad_(is_learning)
                loss = nn.functional.cross_entropy(head(piece_ND).float(), labels_N[start:end], reduction="sum")
            nats += loss.detach()
            if g_hidden_ND is not None:
                first, *others = torch.autograd.grad(loss, [piece_ND, *trained])
                g_hidden_ND[start:end] = first
                for whole, part in zip(g_trained, others, strict=True):
                    whole += part
        if g_hidden_ND is not None:
            ctx.save_for_backward(g_hidden_ND, *g_trained)
        return nats

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # In place: these gradients are used once.
        return None, None, *(tensor.mul_(gradients[0]) for tensor in ctx.saved_tensors)


def causal_model(model: nn.Module) -> PreTrainedModel:
    """The transformers model itself, below what PEFT puts around it."""
    return cast(PreTrainedModel, model.get_base_model() if isinstance(model, PeftModel) else model)


def bits_per_char(nats: float, num_chars: int) -> float:
    """Bits per character: comparable across vocabularies, unlike perplexity."""
    if num_chars == 0:
        raise RunError("the answers have no characters, so bits per character are not defined")
    return nats / math.log(2) / num_chars
