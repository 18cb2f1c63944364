"""Rotary positions (RoPE) in config.json and GGUF: scaling, Llama 3's frequency divisors, and the order of rows."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from gguf import GGUFWriter
from gguf.constants import RopeScalingType

from baihua.core.errors import InputError

if TYPE_CHECKING:
    import torch

Rows = TypeVar("Rows", np.ndarray, "torch.Tensor")

DEFAULT_THETA = 10_000.0
ROPE_FACTORS = "rope_freqs.weight"
"""The tensor of a GGUF file that holds the divisors of the frequencies."""

# The settings in use: those of Llama 3.1, and of the smaller models of Llama 3.2 and 3.3.
KNOWN = tuple(
    {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    for factor in (8.0, 32.0)
)
# llama.cpp's converter computes in float32, we in float64; the known settings differ by more than one part in ten.
CLOSE = 1e-5


def llama3_factors(rope: Mapping[str, Any], head_dim: int) -> np.ndarray:
    """Divisors of the frequencies, float32, one per pair of dimensions.

    Long waves are stretched by `factor`, short ones are not, those between in proportion: section 3 of
    https://arxiv.org/abs/2407.21783 and the reference code of Llama 3.1.
    """
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    context = rope["original_max_position_embeddings"]
    frequencies = rope["rope_theta"] ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    wavelengths = 2 * math.pi / frequencies
    share_kept = np.clip((context / wavelengths - low) / (high - low), 0, 1)
    return (1 / ((1 - share_kept) / rope["factor"] + share_kept)).astype(np.float32)


def recognize(factors: np.ndarray, theta: float) -> dict[str, Any] | None:
    """The settings that give these divisors; None if no known model has them."""
    for known in KNOWN:
        rope = {"rope_theta": theta, **known}
        if np.allclose(factors, llama3_factors(rope, 2 * len(factors)), rtol=CLOSE, atol=0):
            return rope
    return None


def read_rope(config: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """The rope parameters of a config.json, old spelling or new, with `rope_theta` and `rope_type`."""
    rope = {"rope_theta": config.get("rope_theta", DEFAULT_THETA), **(config.get("rope_scaling") or {})}
    rope |= config.get("rope_parameters") or {}
    rope.setdefault("rope_type", rope.get("type", "default"))
    if rope["rope_type"] not in ("default", "linear", "llama3"):
        what = f"rope_type {rope['rope_type']!r} cannot be converted, expected 'default', 'linear' or 'llama3'"
        raise InputError(what, where=str(where), fix="use a base model without this kind of position scaling")
    return rope


def write_rope(rope: Mapping[str, Any], writer: GGUFWriter) -> None:
    """Add the scalar parameters to the file's metadata."""
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])


def rope_factors(rope: Mapping[str, Any], head_dim: int) -> np.ndarray | None:
    """Divisors of the frequencies, one per pair of dimensions, for Llama 3's scaling; else None."""
    return llama3_factors(rope, head_dim) if rope["rope_type"] == "llama3" else None


def to_gguf_rows(weights: Rows, num_heads: int) -> Rows:
    """Rows of a query or key projection, or its bias, in the order of a GGUF file of the architecture `llama`.

    transformers rotates dimension i of a head with i + half a head, llama.cpp rotates neighbours 2i and 2i + 1: the
    two halves of every head are interleaved.
    """
    halves = weights.reshape(num_heads, 2, weights.shape[0] // num_heads // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)


def from_gguf_rows(weights: Rows, num_heads: int) -> Rows:
    """The inverse of `to_gguf_rows`: the even rows of every head come first."""
    pairs = weights.reshape(num_heads, weights.shape[0] // num_heads // 2, 2, *weights.shape[1:])
    return pairs.swapaxes(1, 2).reshape(weights.shape)
