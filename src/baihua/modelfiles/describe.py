"""What a model is made of, read from a model folder or a GGUF file without its weights."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import TensorNameMap, get_tensor_name_map
from gguf.constants import MODEL_ARCH_NAMES
from safetensors import SafetensorError, safe_open

from baihua.core.errors import InputError
from baihua.modelfiles.families import Family, family_of
from baihua.modelfiles.gguf_header import GgufHeader, read_model_header
from baihua.modelfiles.model_folder import check_model_folder, weight_files
from baihua.modelfiles.rope import read_rope, rope_factors

FLOATS = ("F32", "F16", "BF16")
ROPE_FACTORS = "rope_freqs.weight"


@dataclass(frozen=True, slots=True)
class TensorShape:
    """A tensor by llama.cpp's name; the length of a row comes first, as in a GGUF file."""

    name: str
    shape: tuple[int, ...]

    @property
    def layer(self) -> int:
        """Number of its layer; -1 outside the layers."""
        parts = self.name.split(".")
        return int(parts[1]) if parts[0] == "blk" else -1

    @property
    def kind(self) -> str:
        """Its name without layer and ending, such as `attn_v`."""
        return self.name.split(".")[-2]

    @property
    def is_matrix(self) -> bool:
        """Whether it is one of the matrices that may be quantized."""
        return len(self.shape) > 1 and self.name.endswith(".weight") and not self.kind.endswith("_norm")

    @property
    def num_rows(self) -> int:
        """Rows of a matrix; 1 for a vector."""
        return self.num_weights // self.shape[0]

    @property
    def num_weights(self) -> int:
        """Numbers in the tensor."""
        number = 1
        for length in self.shape:
            number *= length
        return number


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """Sizes and tensors of a model, the tensors in the order in which llama.cpp's quantizer writes them."""

    architecture: str
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    width: int
    mlp_width: int
    num_tokens: int
    """Rows of its embedding."""
    context_length: int
    tensors: tuple[TensorShape, ...]

    @property
    def num_weights(self) -> int:
        """All numbers in its tensors."""
        return sum(tensor.num_weights for tensor in self.tensors)


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor of a model folder: the shard that holds it, and its name there."""

    shard: Path
    name: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A model folder that can become a GGUF file."""

    path: Path
    config: Mapping[str, Any]
    family: Family
    described: Described
    stored: Mapping[str, Stored]
    """Where each tensor is; the rope factors, which are computed, are nowhere."""
    rope: Mapping[str, Any]


def describe(path: Path) -> Described:
    """Sizes and tensors of a model folder or a GGUF file; an InputError for what is not a model of a known family."""
    if path.is_dir():
        return read_folder(path).described
    return describe_header(read_model_header(path))


def describe_header(header: GgufHeader) -> Described:
    """The same from a header that has been read."""
    tensors = [TensorShape(tensor.name, tensor.shape) for tensor in header.tensors]
    num_heads, width = header.size("attention.head_count"), header.size("embedding_length")
    num_kv_heads, head_dim = header.of_model("attention.head_count_kv"), header.of_model("attention.key_length")
    vocabulary = next((tensor.num_rows for tensor in tensors if tensor.name == "token_embd.weight"), 0)
    return Described(
        architecture=header.architecture,
        num_layers=header.size("block_count"),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads if isinstance(num_kv_heads, int) else num_heads,
        head_dim=head_dim if isinstance(head_dim, int) else width // num_heads,
        width=width,
        mlp_width=header.size("feed_forward_length"),
        num_tokens=vocabulary,
        context_length=header.size("context_length"),
        tensors=_in_order(tensors),
    )


def read_folder(folder: Path) -> Folder:
    """Read a model folder's config and the names and shapes of its tensors; an InputError where something is wrong."""
    check_model_folder(folder)
    config = _read_config(folder)
    family = family_of(config, folder / "config.json")
    rope = read_rope(config, folder / "config.json")
    stored, tensors = _find_tensors(folder, config, family)
    factors = rope_factors(rope, head_dim_of(config))
    if factors is not None:
        tensors.append(TensorShape(ROPE_FACTORS, factors.shape))
    described = Described(
        architecture=family.architecture,
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        num_kv_heads=num_kv_heads_of(config),
        head_dim=head_dim_of(config),
        width=config["hidden_size"],
        mlp_width=config["intermediate_size"],
        num_tokens=config["vocab_size"],
        context_length=_context_of(config),
        tensors=_in_order(tensors),
    )
    _check_complete(described, family, is_tied(config), folder)
    _check_shapes(described, folder)
    return Folder(folder, config, family, described, stored, rope)


def head_dim_of(config: Mapping[str, Any]) -> int:
    """Numbers of an attention head."""
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def num_kv_heads_of(config: Mapping[str, Any]) -> int:
    """Heads of keys and values."""
    return config.get("num_key_value_heads") or config["num_attention_heads"]


def is_tied(config: Mapping[str, Any]) -> bool:
    """Whether the embeddings are the output layer too."""
    return bool(config.get("tie_word_embeddings"))


def name_map(architecture: str, num_layers: int) -> TensorNameMap:
    """The names of transformers' tensors in llama.cpp."""
    return get_tensor_name_map(
        next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == architecture), num_layers
    )


def _context_of(config: Mapping[str, Any]) -> int:
    """Positions of a text; llama.cpp's graphs of these families look back without end, so a window is their end."""
    context, window = config["max_position_embeddings"], config.get("sliding_window")
    has_window = bool(window) and config.get("use_sliding_window", True)
    return min(context, window) if has_window else context


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"this is no JSON: {error}", where=str(file), fix="copy or download it again") from error


def _in_order(tensors: list[TensorShape]) -> tuple[TensorShape, ...]:
    return tuple(sorted(tensors, key=lambda tensor: (tensor.layer, tensor.name)))


def _find_tensors(
    folder: Path, config: Mapping[str, Any], family: Family
) -> tuple[dict[str, Stored], list[TensorShape]]:
    names = name_map(family.architecture, config["num_hidden_layers"])
    stored: dict[str, Stored] = {}
    tensors: list[TensorShape] = []
    for shard, source, shape in _listed(folder):
        # Old folders store the rotary frequencies, which the config determines; a tied head is the embedding again.
        if source.endswith("rotary_emb.inv_freq") or (source == "lm_head.weight" and is_tied(config)):
            continue
        name = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise InputError(
                f"tensor {source!r} is not part of a model of type {family.model_type!r}",
                where=str(shard),
                fix="merge adapters first; a quantized (4-bit, 8-bit) folder must be saved in full precision",
            )
        stored[name] = Stored(shard, source)
        tensors.append(TensorShape(name, shape[::-1]))
    return stored, tensors


def _listed(folder: Path) -> Iterator[tuple[Path, str, tuple[int, ...]]]:
    for shard in weight_files(folder):
        try:
            with safe_open(shard, "numpy") as tensors:
                parts = {name: tensors.get_slice(name) for name in sorted(tensors.keys())}
                found = [(name, part.get_dtype(), tuple(part.get_shape())) for name, part in parts.items()]
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"the weights cannot be read: {error}", where=str(shard), fix="copy or download the file again"
            ) from error
        for name, dtype, shape in found:
            if dtype not in FLOATS:
                raise InputError(
                    f"tensor {name!r} has the type {dtype}, expected one of {', '.join(FLOATS)}",
                    where=str(shard),
                    fix="save the model in full precision, not quantized",
                )
            yield shard, name, shape


def _check_complete(described: Described, family: Family, has_tied_head: bool, folder: Path) -> None:
    wanted = {"token_embd.weight", "output_norm.weight"} | (set() if has_tied_head else {"output.weight"})
    for layer in range(described.num_layers):
        wanted |= {f"blk.{layer}.{tensor}" for tensor in family.layer_tensors}
    names = {tensor.name for tensor in described.tensors}
    missing = sorted(wanted - names)
    if missing:
        raise InputError(
            f"{len(missing)} tensors of the model are missing, the first is {missing[0]!r}",
            where=str(folder),
            fix="copy all .safetensors files of the model into the folder",
        )
    known = wanted | {ROPE_FACTORS}
    for layer in range(described.num_layers):
        known |= {f"blk.{layer}.{tensor}" for tensor in family.optional_tensors}
    more = sorted(names - known)
    if more:
        raise InputError(
            f"tensor {more[0]!r} is not part of a model of type {family.model_type!r}, and llama.cpp would not use it",
            where=str(folder),
            fix="check `model_type` in config.json",
        )


def _check_shapes(described: Described, folder: Path) -> None:
    """llama.cpp says only which tensor is wrong, and some shapes of a wrong vocabulary it takes."""
    query, key = described.num_heads * described.head_dim, described.num_kv_heads * described.head_dim
    width, mlp = described.width, described.mlp_width
    wanted = {
        "token_embd": (width, described.num_tokens),
        "output": (width, described.num_tokens),
        "output_norm": (width,),
        "attn_norm": (width,),
        "ffn_norm": (width,),
        "attn_q": (width, query),
        "attn_k": (width, key),
        "attn_v": (width, key),
        "attn_output": (query, width),
        "attn_q_norm": (described.head_dim,),
        "attn_k_norm": (described.head_dim,),
        "ffn_gate": (width, mlp),
        "ffn_up": (width, mlp),
        "ffn_down": (mlp, width),
    }
    for tensor in described.tensors:
        expected = wanted.get(tensor.kind, tensor.shape)
        if tensor.name.endswith(".bias"):
            expected = expected[1:]
        if tensor.shape != expected:
            raise InputError(
                f"tensor {tensor.name!r} has the shape {list(tensor.shape)}, config.json makes it {list(expected)} "
                "(length of a row first)",
                where=str(folder),
                fix="use the config.json that belongs to these weights",
            )
