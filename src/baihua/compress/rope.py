"""How a Llama's rotary positions are stretched, in the terms of GGUF."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter
from gguf.constants import RopeScalingType

from baihua.core.errors import InputError
from baihua.model.rope import llama3_factors

DEFAULT_THETA = 10_000.0


def read_rope(config: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """The rope parameters of a config.json, old spelling or new, with `rope_theta` and `rope_type`."""
    rope = {"rope_theta": config.get("rope_theta", DEFAULT_THETA), **(config.get("rope_scaling") or {})}
    rope |= config.get("rope_parameters") or {}
    rope.setdefault("rope_type", rope.get("type", "default"))
    if rope["rope_type"] not in ("default", "linear", "llama3"):
        raise InputError(
            f"rope_type {rope['rope_type']!r} cannot be converted; known are 'default', 'linear' and 'llama3'",
            where=str(where),
            fix="use a base model without this kind of position stretching",
        )
    return rope


def write_rope(rope: Mapping[str, Any], writer: GGUFWriter) -> None:
    """Put the scalar parameters into the file's metadata."""
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])


def rope_factors(rope: Mapping[str, Any], head_dim: int) -> np.ndarray | None:
    """Divisors of the frequencies, one per pair of dimensions, for Llama 3's stretching; else None."""
    return llama3_factors(rope, head_dim) if rope["rope_type"] == "llama3" else None
