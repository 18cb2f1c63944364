"""Family, shape and tensors of a model, read from a model folder or a GGUF file without its weights."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baihua.core.errors import InputError
from baihua.modelfiles.families import Family, family_of, family_of_architecture, llama_cpp_name, transformers_name
from baihua.modelfiles.folder import StoredTensor, check_model_folder, read_json, stored_tensors
from baihua.modelfiles.gguf_header import GgufHeader, read_model_header
from baihua.modelfiles.rope import ROPE_FACTORS, read_rope, rope_factors
from baihua.modelfiles.shape import Shape, read_shape, shape_of_header

FLOATS = ("F32", "F16", "BF16")
IN_FULL = "save the model in full precision, not quantized (4-bit, 8-bit)"
FOLDER_FIX = "use all .safetensors files of the model and the config.json that belongs to them"


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
        return math.prod(self.shape[1:])

    @property
    def num_weights(self) -> int:
        """Numbers in the tensor."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Description:
    """Family, shape and tensors of a model, the tensors in the order in which llama.cpp's quantizer writes them."""

    family: Family
    shape: Shape
    tensors: tuple[TensorShape, ...]

    @property
    def num_weights(self) -> int:
        """All numbers in its tensors."""
        return sum(tensor.num_weights for tensor in self.tensors)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model folder that can become a GGUF file."""

    path: Path
    config: Mapping[str, Any]
    description: Description
    stored: Mapping[str, StoredTensor]
    """The place of each tensor; the rope factors are computed, not stored."""
    rope: Mapping[str, Any]


def describe(model: Path) -> Description:
    """Describe a model folder or a GGUF file; an InputError for what is not a model of a known family."""
    return read_folder(model).description if model.is_dir() else describe_header(read_model_header(model))


def describe_header(header: GgufHeader) -> Description:
    """Describe the model of a header that `read_model_header` has checked."""
    tensors = [TensorShape(tensor.name, tensor.shape) for tensor in header.tensors]
    return Description(family_of_architecture(header.architecture), shape_of_header(header), _in_order(tensors))


def describe_shape(shape: Shape) -> Description:
    """Describe a Llama of this shape that need not exist yet, with the tensors that every Llama has."""
    family = family_of_architecture("llama")
    tensors = [TensorShape(name, _lengths(name, shape)) for name in _required(shape, family)]
    return Description(family, shape, _in_order(tensors))


def read_folder(folder: Path) -> ModelFolder:
    """Read a model folder's config and the names and shapes of its tensors; an InputError where something is wrong."""
    check_model_folder(folder)
    file = folder / "config.json"
    config = read_json(file)
    family, shape, rope = family_of(config, file), read_shape(config, str(file)), read_rope(config, file)
    stored, tensors = _find_tensors(folder, family, shape)
    check_tensors(tensors, family, shape, where=str(folder), fix=FOLDER_FIX)
    factors = rope_factors(rope, shape.head_dim)
    if factors is not None:
        tensors.append(TensorShape(ROPE_FACTORS, factors.shape))
    return ModelFolder(folder, config, Description(family, shape, _in_order(tensors)), stored, rope)


def check_tensors(tensors: Sequence[TensorShape], family: Family, shape: Shape, *, where: str, fix: str) -> list[str]:
    """Check the names and lengths of a model's tensors; returns the names, layer by layer.

    llama.cpp names only the wrong tensor, and accepts some wrong vocabularies.
    """
    found = {tensor.name for tensor in tensors}
    # transformers has biases in all attentions, or all MLPs, or in none of them.
    halves = {_half(name) for name in found if name.startswith("blk.") and name.endswith(".bias")}
    optional = [f"blk.{layer}.{name}" for layer in range(shape.num_layers) for name in family.optional_tensors]
    required = _required(shape, family) + [name for name in optional if _half(name) in halves]
    if missing := sorted(set(required) - found):
        what = f"{len(missing)} tensors of the model are missing, the first is {missing[0]!r}"
        raise InputError(what, where=where, fix=fix)
    if unknown := sorted(found.difference(required, optional)):
        what = f"tensor {unknown[0]!r} is not part of a model of type {family.model_type!r}"
        raise InputError(what, where=where, fix=fix)
    for tensor in tensors:
        expected = _lengths(tensor.name, shape)
        if tensor.shape != expected:
            what = f"tensor {tensor.name!r} has the shape {list(tensor.shape)}, expected {list(expected)} by the config"
            raise InputError(f"{what} (length of a row first)", where=where, fix=fix)
    return required


def _in_order(tensors: list[TensorShape]) -> tuple[TensorShape, ...]:
    return tuple(sorted(tensors, key=lambda tensor: (tensor.layer, tensor.name)))


def _find_tensors(folder: Path, family: Family, shape: Shape) -> tuple[dict[str, StoredTensor], list[TensorShape]]:
    stored: dict[str, StoredTensor] = {}
    tensors: list[TensorShape] = []
    for source, place in stored_tensors(folder).items():
        if place.dtype not in FLOATS:
            what = f"tensor {source!r} has the type {place.dtype}, expected one of {', '.join(FLOATS)}"
            raise InputError(what, where=str(place.file), fix=IN_FULL)
        # Old folders store the rotary frequencies, which the config determines; a tied head is the embedding again.
        if source.endswith("rotary_emb.inv_freq") or (source == "lm_head.weight" and shape.is_tied):
            continue
        name = llama_cpp_name(source)
        if name is None:
            what = f"tensor {source!r} is not part of a model of type {family.model_type!r}"
            raise InputError(what, where=str(place.file), fix=f"merge adapters first; {IN_FULL}")
        stored[name] = place
        tensors.append(TensorShape(name, place.shape[::-1]))
    return stored, tensors


def _required(shape: Shape, family: Family) -> list[str]:
    outer = ["token_embd.weight", "output_norm.weight", *([] if shape.is_tied else ["output.weight"])]
    return outer + [f"blk.{layer}.{name}" for layer in range(shape.num_layers) for name in family.layer_tensors]


def _lengths(name: str, shape: Shape) -> tuple[int, ...]:
    """The lengths of a tensor, length of a row first; a bias has those of its matrix without the row."""
    *_, module, ending = transformers_name(name).split(".")
    if module in shape.linears:
        return shape.linears[module][1:] if ending == "bias" else shape.linears[module]
    if module in ("embed_tokens", "lm_head"):
        return shape.width, shape.num_tokens
    return (shape.head_dim if module in ("q_norm", "k_norm") else shape.width,)


def _half(name: str) -> str:
    """The half of a layer that a tensor belongs to: `attn` or `ffn`."""
    return name.split(".")[2].split("_")[0]
