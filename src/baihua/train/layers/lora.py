"""A LoRA layer whose two products are added inside the frozen one's, forward and backward.

PEFT's own layer makes four passes over the output that this one does not: scaling it, adding it, and both again
for the gradient. On two cores with AMX a LoRA step of SmolLM2-135M is 1.3 times as fast with it (docs/log.md,
2026-11-25). It is PEFT's layer in all else: names, saving, merging.

T tokens, I and O inputs and outputs, R rank.
"""

# ruff: noqa: N803, N806  (names of tensors end with their shape)

from typing import Any

import torch
from peft.tuners import lora
from torch import Tensor, nn


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
        ctx.scaling = scaling
        ctx.shape = x.shape
        return y_TO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_TI, weight_OI, a_RI, b_OR, hidden_TR = ctx.saved_tensors
        g_TO = gradients[0].reshape(-1, gradients[0].shape[-1])
        g_hidden_TR = (g_TO @ b_OR).mul_(ctx.scaling)
        g_a_RI = (g_hidden_TR.T @ x_TI).float()
        g_b_OR = (g_TO.T @ hidden_TR).float().mul_(ctx.scaling)
        g_x = None
        if ctx.needs_input_grad[0]:
            g_x = (g_TO @ weight_OI).addmm_(g_hidden_TR, a_RI).view(ctx.shape)
        return g_x, None, None, g_a_RI, g_b_OR, None


class FusedLora(lora.Linear):
    """PEFT's LoRA layer over a plain linear layer, without dropout and variants."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's output; whatever is out of the ordinary (merged, disabled, several adapters) is left to PEFT."""
        name = self.active_adapters[0] if len(self.active_adapters) == 1 else ""
        weight = self.get_base_layer().weight
        is_plain = not (self.disable_adapters or self.merged or args or kwargs) and name in self.lora_A
        if not is_plain or {x.dtype, weight.dtype} != {_computing_dtype(x)}:
            return super().forward(x, *args, **kwargs)
        a, b, bias = self.lora_A[name].weight, self.lora_B[name].weight, self.get_base_layer().bias
        return _Product.apply(x, weight, bias, a, b, self.scaling[name])  # pyright: ignore[reportReturnType]


def _computing_dtype(x: Tensor) -> torch.dtype:
    """What autocast would multiply in; without it, what is given."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
