"""Conversion of a GGUF file to a Hugging Face folder with exactly the same numbers and tokens."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import quants
from gguf.constants import GGMLQuantizationType

from baihua.core.errors import InputError
from baihua.core.files import write_json
from baihua.model.weights import MAX_SHARD_BYTES, ShardWriter
from baihua.modelfiles.description import Description, check_tensors, describe_header
from baihua.modelfiles.families import transformers_name
from baihua.modelfiles.gguf_header import AGAIN, FROM_FOLDER, GgufHeader, Tensor, read_model_header
from baihua.modelfiles.rope import DEFAULT_THETA, ROPE_FACTORS, from_gguf_rows, recognize
from baihua.modelfiles.special_tokens import special_tokens_of
from baihua.modelfiles.tokenizers.from_gguf import tokenizer_files

STORED = {
    GGMLQuantizationType.F32: torch.float32,
    GGMLQuantizationType.F16: torch.float16,
    GGMLQuantizationType.BF16: torch.bfloat16,
}
# A large vocabulary's embedding in float32 would be the largest part of the memory.
NUM_BLOCK_WEIGHTS = 2**24


def convert(gguf_file: Path, out: Path, *, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Write the model of a GGUF file as a folder of config, safetensors, tokenizer and chat template.

    Quantized weights are dequantized, which is exact in float32; where 16 bits hold every value, 16 bits are written.
    Needs memory for one shard.
    """
    header = read_model_header(gguf_file)
    found = describe_header(header)
    tensors = [tensor for tensor in found.tensors if tensor.name != ROPE_FACTORS]
    names = check_tensors(tensors, found.family, found.shape, where=str(gguf_file), fix=f"{AGAIN}, or {FROM_FOLDER}")
    weights = _GgufWeights(gguf_file, header, found)
    config = _config_of(header, found, weights.rope_factors(), gguf_file)
    files = tokenizer_files(header, gguf_file)
    dtype = weights.smallest_exact_dtype(names)
    out.mkdir(parents=True, exist_ok=True)
    writer = ShardWriter(out, max_shard_bytes=max_shard_bytes)
    for name in names:
        writer.add(transformers_name(name), weights.read(name, dtype))
    writer.close()
    write_json(out / "config.json", config | {"dtype": str(dtype).removeprefix("torch.")})
    for name, content in files.items():
        (out / name).write_bytes(content)


class _GgufWeights:
    """The tensors of a file, dequantized and in transformers' order of rows."""

    def __init__(self, file: Path, header: GgufHeader, model: Description) -> None:
        self._file = file
        self._header = header
        self._tensors: Mapping[str, Tensor] = {tensor.name: tensor for tensor in header.tensors}
        num_heads = {"attn_q": model.shape.num_heads, "attn_k": model.shape.num_kv_heads}
        self._num_heads = num_heads if model.family.rotates_neighbours else {}

    def rope_factors(self) -> np.ndarray | None:
        """The divisors of the rotary frequencies, if the file has them."""
        return self.read(ROPE_FACTORS, torch.float32).numpy() if ROPE_FACTORS in self._tensors else None

    def smallest_exact_dtype(self, names: Sequence[str]) -> torch.dtype:
        """float16 or bfloat16 where it holds every weight, else float32."""
        left = [torch.float16, torch.bfloat16]
        for name in names:
            for block in self._blocks(self._tensors[name]):
                left = [dtype for dtype in left if torch.equal(block.to(dtype).to(block.dtype), block)]
            if not left:
                return torch.float32
        return left[0]

    def read(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        """One tensor, in its shape."""
        tensor = self._tensors[name]
        weights = torch.cat([block.to(dtype) for block in self._blocks(tensor)]).reshape(tensor.shape[::-1])
        num_heads = self._num_heads.get(name.split(".")[-2])
        return weights if num_heads is None else from_gguf_rows(weights, num_heads)

    def _blocks(self, tensor: Tensor) -> Iterator[torch.Tensor]:
        """Whole rows, as many as fit in a block."""
        num_rows = int(np.prod(tensor.shape[1:]))
        step = max(1, NUM_BLOCK_WEIGHTS // tensor.shape[0])
        # Opened for each tensor: the pages of a file that stays mapped count as memory.
        start = self._header.data_start + tensor.offset
        data = np.memmap(self._file, np.uint8, "r", start, (num_rows, tensor.num_bytes // num_rows))
        for row in range(0, num_rows, step):
            rows = data[row : row + step]
            if tensor.type in STORED:
                yield torch.from_numpy(np.array(rows)).view(STORED[tensor.type])
            else:
                yield torch.from_numpy(quants.dequantize(rows, tensor.type))


def _config_of(header: GgufHeader, model: Description, factors: np.ndarray | None, where: Path) -> dict[str, Any]:
    """The config.json of the model in a file; `factors` are its divisors of the rotary frequencies, if it has any."""
    family, shape = model.family, model.shape
    # These families rotate all numbers of a head, and their values are as wide as their keys.
    for name in ("attention.value_length", "rope.dimension_count"):
        value = header.of_model(name, shape.head_dim)
        if value != shape.head_dim:
            what = f"{header.architecture}.{name} is {value}, expected the {shape.head_dim} numbers of a head"
            raise InputError(what, where=str(where), fix=FROM_FOLDER)
    tokens = header.values.get("tokenizer.ggml.tokens")
    num_tokens = len(tokens) if isinstance(tokens, list) else 0
    if shape.num_tokens != num_tokens:
        what = f"the file's embedding has {shape.num_tokens:,} rows, its vocabulary {num_tokens:,} tokens"
        raise InputError(what, where=str(where), fix=AGAIN)
    special = special_tokens_of(header)
    config: dict[str, Any] = {
        "architectures": [family.class_name],
        "model_type": family.model_type,
        "vocab_size": shape.num_tokens,
        "hidden_size": shape.width,
        "intermediate_size": shape.mlp_width,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context_length,
        "rms_norm_eps": _shortest(header.of_model("attention.layer_norm_rms_epsilon", 1e-6)),
        "rope_parameters": _rope(header, factors, where),
        "tie_word_embeddings": shape.is_tied,
        "bos_token_id": special.bos,
        "eos_token_id": special.eos,
        "pad_token_id": special.pad,
    }
    names = {tensor.name for tensor in header.tensors}
    biases = {"attention_bias": "blk.0.attn_output.bias", "mlp_bias": "blk.0.ffn_up.bias"}
    return config | {key: True for key, name in biases.items() if name in names}


def _rope(header: GgufHeader, factors: np.ndarray | None, where: Path) -> dict[str, Any]:
    theta = _shortest(header.of_model("rope.freq_base", DEFAULT_THETA))
    factor = _shortest(header.of_model("rope.scaling.factor", header.of_model("rope.scale_linear", 0.0)))
    # llama.cpp takes a factor without a type as linear.
    kind = header.of_model("rope.scaling.type", "linear" if factor else "none")
    found = recognize(factors, theta) if factors is not None else None
    if kind not in ("none", "linear") or (factors is not None and (found is None or kind == "linear")):
        scaling = f"rope scaling {kind!r}, rope factors: {factors is not None}"
        what = f"the model scales its positions ({scaling}) in a way that cannot be read from a GGUF file"
        known = "known are 'linear' and the factors of Llama 3.1 and 3.2"
        raise InputError(f"{what}; {known}", where=str(where), fix=FROM_FOLDER)
    if found is not None:
        return found
    if kind == "linear" and factor:
        return {"rope_theta": theta, "rope_type": "linear", "factor": factor}
    return {"rope_theta": theta, "rope_type": "default"}


def _shortest(value: Any) -> float:
    """The shortest number that is the same in float32, which is how GGUF files hold it."""
    return float(str(np.float32(value)))
