"""A LoRA adapter becomes a GGUF file that llama.cpp adds to its base while it answers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peft
from gguf import GGUFWriter
from safetensors import safe_open

from baihua.core.errors import InputError
from baihua.core.files import appearing
from baihua.model.adapter import WEIGHTS, read_config
from baihua.modelfiles.description import Description, describe
from baihua.modelfiles.families import llama_cpp_name
from baihua.modelfiles.rope import to_gguf_rows

PREFIX = "base_model.model."
PARTS = {".lora_A.weight": ".lora_a", ".lora_B.weight": ".lora_b"}
FIX = "merge it into its base and serve the result: baihua do merge"


@dataclass(frozen=True, slots=True)
class Part:
    """One of the two matrices beside a matrix of the base, by llama.cpp's name."""

    name: str
    weights: np.ndarray


def write_adapter(adapter: Path, base: Path, file: Path) -> int:
    """Write a PEFT folder for a base (a GGUF file or a model folder) as a GGUF file; the number of matrices beside it.

    Matrices are float32, and each second one has the adapter's scale in it: llama.cpp itself knows one scale for all,
    and none that goes with the root of the rank.
    """
    config = read_config(adapter)
    if not isinstance(config, peft.LoraConfig):
        raise _refused("its rows of new tokens are no LoRA", adapter)
    _check(config, adapter)
    described = describe(base)
    parts = list(_parts(adapter, config, described))
    with appearing(file) as partial:
        writer = GGUFWriter(partial, described.family.architecture)
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        # With 0 llama.cpp multiplies by nothing but the strength that a request asks for.
        writer.add_float32("adapter.lora.alpha", 0.0)
        for part in parts:
            writer.add_tensor(part.name, part.weights)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return len(parts) // 2


def _check(config: peft.LoraConfig, adapter: Path) -> None:
    if config.use_dora:
        raise _refused("DoRA changes the lengths of the base's own columns", adapter)
    if config.modules_to_save or config.trainable_token_indices:
        raise _refused("it brings whole rows or modules beside its LoRA", adapter)
    if config.bias != "none" or config.lora_bias:
        raise _refused("it trained biases", adapter)


def _parts(adapter: Path, config: peft.LoraConfig, described: Description) -> Iterator[Part]:
    shapes = {tensor.name: tensor.shape for tensor in described.tensors}
    with safe_open(adapter / WEIGHTS, "np") as tensors:
        for source in sorted(tensors.keys()):
            module, kind = _split(source, adapter)
            name = llama_cpp_name(f"{module}.weight")
            if name is None or name not in shapes:
                raise _refused(f"it changes {module!r}, which is no matrix of its own in this base", adapter)
            weights = tensors.get_tensor(source).astype(np.float32)
            expected, found = shapes[name], weights.shape
            if (found[1] != expected[0]) if kind == ".lora_a" else (found[0] != expected[1]):
                raise InputError(
                    f"its matrix for {module!r} has the shape {list(found)}, the base's has {list(expected[::-1])}",
                    where=str(adapter),
                    fix="give the base that the adapter was trained on",
                )
            if kind == ".lora_b":
                weights = _in_order(weights * _scale(config, module, weights.shape[1]), name, described)
            yield Part(name + kind, weights)


def _split(source: str, adapter: Path) -> tuple[str, str]:
    for ending, kind in PARTS.items():
        if source.startswith(PREFIX) and source.endswith(ending):
            return source.removeprefix(PREFIX).removesuffix(ending), kind
    raise _refused(f"it holds {source!r}", adapter)


def _scale(config: peft.LoraConfig, module: str, rank: int) -> float:
    """PEFT's alpha/rank, or alpha/sqrt(rank) (rsLoRA, arXiv 2312.03732), with what is said for single modules."""
    patterns: dict[str, Any] = config.alpha_pattern or {}
    named = [value for name, value in patterns.items() if module == name or module.endswith(f".{name}")]
    alpha = named[0] if named else config.lora_alpha
    return alpha / (math.sqrt(rank) if config.use_rslora else rank)


def _in_order(weights: np.ndarray, name: str, described: Description) -> np.ndarray:
    """Rows of a query's or key's second matrix in the order of the base's rows in the file."""
    num_heads = {"attn_q": described.shape.num_heads, "attn_k": described.shape.num_kv_heads}.get(name.split(".")[-2])
    if not described.family.rotates_neighbours or num_heads is None:
        return weights
    return np.ascontiguousarray(to_gguf_rows(weights, num_heads))


def _refused(why: str, adapter: Path) -> InputError:
    return InputError(f"llama.cpp cannot add this adapter while it answers: {why}", where=str(adapter), fix=FIX)
