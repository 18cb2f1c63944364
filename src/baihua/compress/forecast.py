"""What writing the levels of a model will take on the disk, and each level when it runs, before anything is written."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from baihua.compress.fit import memory_of
from baihua.compress.levels import choose_types
from baihua.modelfiles.describe import Described, TensorShape, describe

# Of a file that is not tensors: SmolLM2-135M's 49,152 tokens and 48,900 merges take 1.79 MB.
HEADER_BYTES_PER_TOKEN = 36
CHAT_CONTEXT = 4096
"""Tokens of context with which `baihua chat` opens a file."""


def forecast(
    levels: Sequence[str], model: Path | None, widths: Mapping[str, Any] | None = None, *, first: str = "f16"
) -> dict[str, Any]:
    """Disk that the levels of a model take (`first` is always written too), and memory with which each will run.

    `widths` (see `sketch`) stand for a model that is not built yet; without either nothing is known. The memory of the
    writing itself is left out: it was not measured.
    """
    if widths is not None:
        described = sketch(**widths)
    elif model is not None:
        described = describe(model)
    else:
        return {"unknown": "the model is not built yet: run its stage, or add --assume model=NAME"}
    num_ctx = min(CHAT_CONTEXT, described.context_length)
    disk_bytes, lines = 0, list[str]()
    for level in dict.fromkeys([first, *levels]):
        choices = choose_types(described, level)
        size = sum(choice.num_bytes for choice in choices) + HEADER_BYTES_PER_TOKEN * described.num_tokens
        needed = memory_of(described, choices, num_ctx).total
        disk_bytes += size
        lines.append(f"{level}: {size / 1e9:.2f} GB, runs in {needed / 1e9:.2f} GB with {num_ctx:,} tokens of context")
    return {"disk_bytes": disk_bytes, "assumptions": lines}


def sketch(
    *,
    num_layers: int,
    width: int,
    mlp_width: int,
    query_width: int,
    key_width: int,
    num_tokens: int,
    is_tied: bool,
) -> Described:
    """A Llama of these widths. Its heads are as wide as all keys: only their ratio to the queries' matters here."""
    tensors = [TensorShape("output_norm.weight", (width,)), TensorShape("token_embd.weight", (width, num_tokens))]
    tensors += [] if is_tied else [TensorShape("output.weight", (width, num_tokens))]
    shapes = {
        "attn_norm": (width,),
        "attn_q": (width, query_width),
        "attn_k": (width, key_width),
        "attn_v": (width, key_width),
        "attn_output": (query_width, width),
        "ffn_norm": (width,),
        "ffn_gate": (width, mlp_width),
        "ffn_up": (width, mlp_width),
        "ffn_down": (mlp_width, width),
    }
    for layer in range(num_layers):
        tensors += [TensorShape(f"blk.{layer}.{name}.weight", shape) for name, shape in shapes.items()]
    return Described(
        architecture="llama",
        num_layers=num_layers,
        num_heads=query_width // key_width,
        num_kv_heads=1,
        head_dim=key_width,
        width=width,
        mlp_width=mlp_width,
        num_tokens=num_tokens,
        context_length=CHAT_CONTEXT,
        tensors=tuple(tensors),
    )
