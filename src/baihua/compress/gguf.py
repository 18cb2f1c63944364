"""A Hugging Face Llama folder becomes a GGUF file, one tensor at a time."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter, get_tensor_name_map, quants
from gguf.constants import (
    GGML_QUANT_SIZES,
    GGML_QUANT_VERSION,
    MODEL_ARCH,
    GGMLQuantizationType,
    LlamaFileType,
)
from safetensors import SafetensorError, safe_open

from baihua.compress.rope import read_rope, rope_factors, write_rope
from baihua.compress.vocabulary import read_vocabulary, write_special_ids
from baihua.core.errors import InputError, RunError

LEVELS = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
LAYER_TENSORS = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
FLOATS = ("F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class GgufFacts:
    """What was written; `bits_per_weight` counts tensor data only, not the vocabulary."""

    file_bytes: int
    bits_per_weight: float
    num_weights: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One tensor to write: where it comes from, what it becomes."""

    name: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]
    source: tuple[Path, str] | None
    """Shard and name in it; None for the rope factors, which are computed."""

    @property
    def num_bytes(self) -> int:
        """Bytes of its data in the file."""
        block, num_block_bytes = GGML_QUANT_SIZES[self.type]
        return self.num_weights // block * num_block_bytes

    @property
    def num_weights(self) -> int:
        """Numbers in the tensor."""
        return int(np.prod(self.shape))


def check_level(level: str) -> None:
    """Raise an InputError for a level that is not known."""
    if level not in LEVELS:
        raise InputError(f"unknown level {level!r}", where="levels", fix=f"use one of: {', '.join(LEVELS)}")


def write_gguf(model_folder: Path, file: Path, *, level: str) -> GgufFacts:
    """Write a model folder as one GGUF file; the file appears when it is complete, never half."""
    check_level(level)
    config = _read_config(model_folder)
    rope = read_rope(config, model_folder / "config.json")
    factors = rope_factors(rope, _head_dim(config))
    plans = _plan(model_folder, config, LEVELS[level][0], factors)
    partial = file.with_name(file.name + ".partial")
    # The writer knows every tensor's size beforehand, so that one tensor at a time is in memory.
    writer = GGUFWriter(partial, "llama")
    try:
        _write_metadata(writer, model_folder, config, rope, level)
        for plan in plans:
            writer.add_tensor_info(plan.name, plan.shape, np.dtype(np.float32), plan.num_bytes, raw_dtype=plan.type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for plan, weights in _weights(plans, config, factors):
            writer.write_tensor_data(_convert(weights, plan, model_folder))
        writer.close()
        partial.replace(file)
    finally:
        writer.close()
        partial.unlink(missing_ok=True)
    num_weights = sum(plan.num_weights for plan in plans)
    num_bits = 8 * sum(plan.num_bytes for plan in plans)
    return GgufFacts(file.stat().st_size, num_bits / num_weights, num_weights)


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.is_file():
        raise InputError("no config.json: not a model folder", where=str(folder), fix="name a Hugging Face folder")
    config = json.loads(file.read_text(encoding="utf-8"))
    if config.get("architectures") != ["LlamaForCausalLM"]:
        raise InputError(
            f"the model's architectures are {config.get('architectures')}, expected ['LlamaForCausalLM']",
            where=str(file),
            fix="use a model of the Llama family; merge an adapter into its base model first",
        )
    return config


def _head_dim(config: Mapping[str, Any]) -> int:
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def _num_kv_heads(config: Mapping[str, Any]) -> int:
    return config.get("num_key_value_heads") or config["num_attention_heads"]


def _plan(
    folder: Path, config: Mapping[str, Any], type_: GGMLQuantizationType, factors: np.ndarray | None
) -> list[Plan]:
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    plans = []
    for shard, source, shape in _listed(folder):
        # Old folders store the rotary frequencies, which the config determines; a tied head is the embedding again.
        if source.endswith("rotary_emb.inv_freq") or (source == "lm_head.weight" and _is_tied(config)):
            continue
        name = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise InputError(
                f"tensor {source!r} is not part of a Llama",
                where=str(shard),
                fix="merge adapters first; a quantized (4-bit, 8-bit) folder must be saved in full precision",
            )
        plans.append(Plan(name, _type_for(shape, type_), shape, (shard, source)))
    if factors is not None:
        plans.append(Plan("rope_freqs.weight", GGMLQuantizationType.F32, factors.shape, None))
    _check_complete({plan.name for plan in plans}, config, folder)
    return plans


def _listed(folder: Path) -> Iterator[tuple[Path, str, tuple[int, ...]]]:
    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        raise InputError(
            "no .safetensors file in the model folder; weights in pickle formats (.bin, .pt) are never loaded",
            where=str(folder),
            fix="save the model with save_pretrained(..., safe_serialization=True)",
        )
    for shard in shards:
        try:
            with safe_open(shard, "pt") as tensors:
                parts = {name: tensors.get_slice(name) for name in sorted(tensors.keys())}
        except SafetensorError as error:
            raise InputError(
                f"the weights cannot be read: {error}", where=str(shard), fix="copy or download the file again"
            ) from error
        for name, part in parts.items():
            if part.get_dtype() not in FLOATS:
                raise InputError(
                    f"tensor {name!r} has the type {part.get_dtype()}, expected one of {', '.join(FLOATS)}",
                    where=str(shard),
                    fix="save the model in full precision, not quantized",
                )
            yield shard, name, tuple(part.get_shape())


def _is_tied(config: Mapping[str, Any]) -> bool:
    return bool(config.get("tie_word_embeddings"))


def _type_for(shape: tuple[int, ...], type_: GGMLQuantizationType) -> GGMLQuantizationType:
    """Norms and biases stay float32: llama.cpp expects it, and they are few."""
    if len(shape) == 1:
        return GGMLQuantizationType.F32
    return GGMLQuantizationType.F16 if shape[-1] % GGML_QUANT_SIZES[type_][0] else type_


def _check_complete(names: set[str], config: Mapping[str, Any], folder: Path) -> None:
    wanted = {"token_embd.weight", "output_norm.weight"} | (set() if _is_tied(config) else {"output.weight"})
    for layer in range(config["num_hidden_layers"]):
        wanted |= {f"blk.{layer}.{tensor}.weight" for tensor in LAYER_TENSORS}
    missing = sorted(wanted - names)
    if missing:
        raise InputError(
            f"{len(missing)} tensors of the model are missing, the first is {missing[0]!r}",
            where=str(folder),
            fix="copy all .safetensors files of the model into the folder",
        )


def _write_metadata(
    writer: GGUFWriter, folder: Path, config: Mapping[str, Any], rope: Mapping[str, Any], level: str
) -> None:
    writer.add_type("model")
    writer.add_file_type(LEVELS[level][1])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(_num_kv_heads(config))
    writer.add_key_length(_head_dim(config))
    writer.add_value_length(_head_dim(config))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(_head_dim(config))
    write_rope(rope, writer)
    vocabulary = read_vocabulary(folder, config["vocab_size"])
    vocabulary.write(writer)
    write_special_ids(folder, vocabulary, writer)
    template = _chat_template(folder)
    if template:
        writer.add_chat_template(template)


def _chat_template(folder: Path) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    settings = folder / "tokenizer_config.json"
    found = json.loads(settings.read_text(encoding="utf-8")).get("chat_template") if settings.is_file() else None
    return found if isinstance(found, str) else None


def _weights(
    plans: list[Plan], config: Mapping[str, Any], factors: np.ndarray | None
) -> Iterator[tuple[Plan, np.ndarray]]:
    num_heads = {"attn_q": config["num_attention_heads"], "attn_k": _num_kv_heads(config)}
    for plan in plans:
        if plan.source is None:
            assert factors is not None, "only the rope factors have no source"
            yield plan, factors
            continue
        shard, source = plan.source
        with safe_open(shard, "pt") as tensors:
            weights = tensors.get_tensor(source).float().numpy()
        kind = plan.name.split(".")[-2]
        yield plan, interleave(weights, num_heads[kind]) if kind in num_heads else weights


def interleave(weights: np.ndarray, num_heads: int) -> np.ndarray:
    """Rows of a query or key projection in llama.cpp's order.

    Transformers rotates dimension i with i + half a head, llama.cpp rotates neighbours, so the halves of
    every head are shuffled together.
    """
    halves = weights.reshape(num_heads, 2, weights.shape[0] // num_heads // 2, *weights.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weights.shape)


def _convert(weights: np.ndarray, plan: Plan, folder: Path) -> np.ndarray:
    if not np.isfinite(weights).all():
        raise RunError(
            f"tensor {plan.name!r} holds values that are not finite numbers",
            where=str(folder),
            fix="the training has diverged: go back to an earlier checkpoint",
        )
    if plan.type == GGMLQuantizationType.F16 and np.abs(weights).max() > np.finfo(np.float16).max:
        raise RunError(
            f"tensor {plan.name!r} holds values beyond float16's 65,504", where=str(folder), fix="use the level bf16"
        )
    return quants.quantize(weights, plan.type)
