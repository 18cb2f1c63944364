"""A GGUF file becomes a Hugging Face folder with exactly the same numbers and tokens."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from gguf import quants
from gguf.constants import GGMLQuantizationType

from baihua.core.errors import InputError
from baihua.core.files import write_json
from baihua.model.weights import MAX_SHARD_BYTES, ShardWriter
from baihua.modelfiles.families import family_of_architecture, transformers_name
from baihua.modelfiles.gguf_config import ROPE_FACTORS, config_of
from baihua.modelfiles.gguf_header import GgufHeader, Tensor, read_model_header
from baihua.modelfiles.rope import from_gguf_rows
from baihua.modelfiles.shape import shape_of_header
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

    Quantized weights are multiplied out, which is exact in float32; where 16 bits hold every value, 16 bits
    are written. Needs memory for one shard.
    """
    header = read_model_header(gguf_file)
    names = _names(header, gguf_file)
    weights = _Weights(gguf_file, header)
    config = config_of(header, weights.rope_factors(), gguf_file)
    files = tokenizer_files(header, gguf_file)
    dtype = weights.smallest_exact_dtype(names)
    out.mkdir(parents=True, exist_ok=True)
    writer = ShardWriter(out, max_shard_bytes=max_shard_bytes)
    for name, theirs in names.items():
        writer.add(theirs, weights.read(name, dtype))
    writer.close()
    write_json(out / "config.json", config | {"dtype": str(dtype).removeprefix("torch.")})
    for name, content in files.items():
        (out / name).write_bytes(content)


def _names(header: GgufHeader, where: Path) -> dict[str, str]:
    """Each tensor's name in the file and in transformers; an InputError for one too many or too few."""
    family, num_layers = family_of_architecture(header.architecture), header.size("block_count")
    found = {tensor.name for tensor in header.tensors} - {ROPE_FACTORS}
    wanted = ["token_embd.weight", "output_norm.weight", *({"output.weight"} & found)]
    possible = list(wanted)
    with_bias = {_half(name) for name in found if name.startswith("blk.") and name.endswith(".bias")}
    for layer in range(num_layers):
        own = [f"blk.{layer}.{name}" for name in family.layer_tensors]
        optional = [f"blk.{layer}.{name}" for name in family.optional_tensors]
        # transformers has a bias everywhere in the attentions, or MLPs, or nowhere.
        wanted += own + [name for name in optional if _half(name) in with_bias]
        possible += own + optional
    unknown = sorted(found - set(possible))
    if unknown:
        raise InputError(
            f"tensor {unknown[0]!r} is not part of a {header.architecture} model that transformers knows as "
            f"{family.class_name}",
            where=str(where),
            fix="import the model from its Hugging Face folder instead of the .gguf file",
        )
    missing = [transformers_name(name) for name in wanted if name not in found]
    if missing:
        raise InputError(
            f"{len(missing)} tensors of the model are missing, the first is {missing[0]!r}",
            where=str(where),
            fix="download or convert the file again",
        )
    return {name: transformers_name(name) for name in wanted}


def _half(name: str) -> str:
    """The half of a layer that a tensor belongs to: `attn` or `ffn`."""
    return name.split(".")[2].split("_")[0]


class _Weights:
    """The tensors of a file, multiplied out and in transformers' order of rows."""

    def __init__(self, file: Path, header: GgufHeader) -> None:
        self._file = file
        self._header = header
        self._tensors: Mapping[str, Tensor] = {tensor.name: tensor for tensor in header.tensors}
        shape = shape_of_header(header)
        num_heads = {"attn_q": shape.num_heads, "attn_k": shape.num_kv_heads}
        self._num_heads = num_heads if family_of_architecture(header.architecture).rotates_neighbours else {}

    def rope_factors(self) -> np.ndarray | None:
        """The divisors of the rotary frequencies, where the file has them."""
        return self.read(ROPE_FACTORS, torch.float32).numpy() if ROPE_FACTORS in self._tensors else None

    def smallest_exact_dtype(self, names: Mapping[str, str]) -> torch.dtype:
        """float16 or bfloat16 where it holds every weight, else float32."""
        left = [torch.float16, torch.bfloat16]
        for name in names:
            for block in self._blocks(self._tensors[name]):
                left = [dtype for dtype in left if torch.equal(block.to(dtype).to(block.dtype), block)]
            if not left:
                return torch.float32
        return left[0]

    def read(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        """One tensor."""
        tensor = self._tensors[name]
        weights = torch.cat([block.to(dtype) for block in self._blocks(tensor)]).reshape(tensor.shape[::-1])
        num_heads = self._num_heads.get(name.split(".")[-2])
        return weights if num_heads is None else from_gguf_rows(weights, num_heads)

    def _blocks(self, tensor: Tensor) -> Iterator[torch.Tensor]:
        """Whole rows, as many as fit in a block."""
        num_rows = int(np.prod(tensor.shape[1:]))
        step = max(1, NUM_BLOCK_WEIGHTS // tensor.shape[0])
        # Opened anew for each tensor: the pages of a file that stays mapped count as memory.
        start = self._header.data_start + tensor.offset
        data = np.memmap(self._file, np.uint8, "r", start, (num_rows, tensor.num_bytes // num_rows))
        for row in range(0, num_rows, step):
            yield _multiply_out(data[row : row + step], tensor.type)


def _multiply_out(rows: np.ndarray, kind: GGMLQuantizationType) -> torch.Tensor:
    if kind in STORED:
        return torch.from_numpy(np.array(rows)).view(STORED[kind])
    return torch.from_numpy(quants.dequantize(rows, kind))
