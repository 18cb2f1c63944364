"""Attention that stays inside documents: many conversations in one row, without padding between them.

A batch is one row of T tokens; `ends` gives where each document ends. transformers hands both to the attention function
that is registered under a name, so no model class is changed.

T tokens, H query heads, G key and value heads, S tokens times the query heads that share a key, D width of a head.
"""

# ruff: noqa: N803, N806  (names of tensors end with their shape)

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "baihua_documents"
# The kernels of scaled_dot_product_attention on a CPU; called directly because only they return the sums of the scores.
FORWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
# For the backward pass on a CPU. Torch's kernel multiplies block by block: in bfloat16 through oneDNN, which is slow
# for blocks and keeps 4.5 MB for every new length (2 GB after 20 steps of 30 million weights), so it is used in
# float32; and up to this length whole matrices of scores are still faster (15 documents of 137 tokens on average, 9
# heads, two cores: 50 ms in bfloat16, 31 in float32, 26 with matrices up to 192; docs/log.md, 2026-11-25).
MAX_WHOLE_LENGTH = 192
# The forward pass stays in bfloat16; oneDNN keeps 0.25 MB per length there, so lengths are rounded up and few.
LENGTH_MULTIPLE = 64


def use_document_attention(model: nn.Module) -> None:
    """Let a transformers model attend within documents; its forward then needs `cu_seq_lens_q` and `max_length_q`."""
    ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
    # No mask is made: the ends of the documents replace it.
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, lambda *args, **kwargs: None)
    model.set_attn_implementation(NAME)  # pyright: ignore[reportCallIssue]


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **facts: Any
) -> tuple[Tensor, None]:
    """Causal attention within each document; query, key and value as 1 x heads x T x D, the result 1 x T x H x D.

    `facts` is what transformers passes on: `scaling`, `sliding_window`, and our `cu_seq_lens_q` and `max_length_q`.
    Attention dropout is not applied: no model of this family was trained with it.
    """
    scaling, ends, longest = facts["scaling"], facts["cu_seq_lens_q"], facts["max_length_q"]
    sliding_window = facts.get("sliding_window") or 0
    # Where hidden states are float32 the rotation makes queries and keys float32 again; values have the precision.
    q_THD, k_TGD, v_TGD = (tensor[0].transpose(0, 1).to(value.dtype) for tensor in (query, key, value))
    is_grouped = q_THD.shape[1] != k_TGD.shape[1]
    if query.device.type == "cuda" and value.dtype in (torch.bfloat16, torch.float16):
        window = (sliding_window - 1, 0)
        lengths = {"cu_seq_q": ends, "cu_seq_k": ends, "max_q": longest, "max_k": longest}
        out_THD = varlen_attn(q_THD, k_TGD, v_TGD, **lengths, scale=scaling, window_size=window, enable_gqa=is_grouped)
        assert isinstance(out_THD, Tensor), "no auxiliary result was requested"
    elif query.device.type == "cpu" and not 0 < sliding_window < longest:
        out_THD = _OnCpu.apply(q_THD, k_TGD, v_TGD, ends, scaling)
    else:
        lengths = ends.diff().tolist()
        documents = zip(q_THD.split(lengths), k_TGD.split(lengths), v_TGD.split(lengths), strict=True)
        out_THD = torch.cat([_attend_one(q, k, v, scaling, sliding_window) for q, k, v in documents])
    return out_THD[None], None


class _OnCpu(torch.autograd.Function):
    """One document after the other: a CPU has no kernel for many."""

    @staticmethod
    def forward(ctx: Any, q_THD: Tensor, k_TGD: Tensor, v_TGD: Tensor, ends: Tensor, scaling: float) -> Tensor:
        out_THD = torch.empty_like(q_THD, memory_format=torch.contiguous_format)
        sums_HT = torch.empty(q_THD.shape[1], q_THD.shape[0])
        for start, end in itertools.pairwise(ends.tolist()):
            q, k, v = (_padded(tensor[start:end].transpose(0, 1)[None]) for tensor in (q_THD, k_TGD, v_TGD))
            out, sums = FORWARD(q, k, v, 0.0, True, scale=scaling)
            out_THD[start:end] = out[0, :, : end - start].transpose(0, 1)
            sums_HT[:, start:end] = sums[0, :, : end - start]
        ctx.save_for_backward(q_THD, k_TGD, v_TGD, out_THD, sums_HT, ends)
        ctx.scaling = scaling
        return out_THD

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, out_THD, sums_HT, ends = ctx.saved_tensors
        found = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in inputs]
        for start, end in itertools.pairwise(ends.tolist()):
            q, k, v, out, g_out = (t[start:end].transpose(0, 1) for t in (*inputs, out_THD, gradients[0]))
            is_short = end - start <= MAX_WHOLE_LENGTH and gradients[0].dtype == torch.bfloat16
            backward = backward_by_matrices if is_short else backward_by_blocks
            parts = backward(q, k, v, out, g_out, sums_HT[:, start:end], ctx.scaling)
            for whole, part in zip(found, parts, strict=True):
                whole[start:end] = part.transpose(0, 1)
        return *found, None, None


def backward_by_blocks(
    q_HTD: Tensor, k_GTD: Tensor, v_GTD: Tensor, out_HTD: Tensor, g_out_HTD: Tensor, sums_HT: Tensor, scaling: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value of one document by torch's kernel, in float32.

    `g_out_HTD` is the gradient of the output; `sums_HT` holds the logarithm of the sum of each row's exponential
    scores, with which the backward pass needs no softmax.
    """
    num_shared = len(q_HTD) // len(k_GTD)
    k_HTD, v_HTD = (tensor.repeat_interleave(num_shared, 0) for tensor in (k_GTD, v_GTD))
    inputs = (tensor.float()[None] for tensor in (g_out_HTD, q_HTD, k_HTD, v_HTD, out_HTD))
    g_q, g_k, g_v = BACKWARD(*inputs, sums_HT[None], 0.0, True, scale=scaling)
    return g_q[0], *(tensor[0].unflatten(0, (-1, num_shared)).sum(1) for tensor in (g_k, g_v))


def backward_by_matrices(
    q_HTD: Tensor, k_GTD: Tensor, v_GTD: Tensor, out_HTD: Tensor, g_out_HTD: Tensor, sums_HT: Tensor, scaling: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The same with the scores of all pairs of tokens at once; query heads that share a key form one matrix."""
    num_keys, num_tokens, width = k_GTD.shape
    q_GSD, g_GSD, out_GSD = (t.reshape(num_keys, -1, width) for t in (q_HTD, g_out_HTD, out_HTD))
    future_TT = torch.full((num_tokens, num_tokens), -torch.inf).triu_(1)
    scores_GST = torch.bmm(q_GSD, k_GTD.transpose(1, 2)).view(num_keys, -1, num_tokens, num_tokens)
    weights_GST = torch.add(future_TT, scores_GST, alpha=scaling).view(num_keys, -1, num_tokens)
    weights_GST.sub_(sums_HT.reshape(num_keys, -1, 1)).exp_()
    g_v_GTD = torch.bmm(weights_GST.to(q_HTD.dtype).transpose(1, 2), g_GSD)
    # The softmax subtracts the weighted mean of the gradients, which is that of the output along the output.
    mean_GS1 = (g_GSD.float() * out_GSD).sum(-1, keepdim=True)
    g_scores_GST = (torch.bmm(g_GSD, v_GTD.transpose(1, 2)) - mean_GS1).mul_(weights_GST).to(q_HTD.dtype)
    g_q_GSD = torch.bmm(g_scores_GST, k_GTD).mul_(scaling)
    g_k_GTD = torch.bmm(g_scores_GST.transpose(1, 2), q_GSD).mul_(scaling)
    return g_q_GSD.view(q_HTD.shape), g_k_GTD, g_v_GTD


def _padded(tensor: Tensor) -> Tensor:
    """A document with zeros after its end, which none of its tokens attends to; unchanged in float32."""
    padding = (0, 0, 0, -tensor.shape[2] % LENGTH_MULTIPLE)
    return tensor if tensor.dtype == torch.float32 else nn.functional.pad(tensor, padding)


def _attend_one(q_THD: Tensor, k_TGD: Tensor, v_TGD: Tensor, scaling: float, sliding_window: int) -> Tensor:
    """A document by the kernel that torch chooses."""
    mask = None
    if 0 < sliding_window < len(q_THD):
        positions = torch.arange(len(q_THD), device=q_THD.device)
        distance = positions[:, None] - positions
        mask = (distance >= 0) & (distance < sliding_window)
    q, k, v = (tensor.transpose(0, 1)[None] for tensor in (q_THD, k_TGD, v_TGD))
    options: dict[str, Any] = {"scale": scaling, "enable_gqa": q_THD.shape[1] != k_TGD.shape[1]}
    out = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, **options)
    return out[0].transpose(0, 1)
