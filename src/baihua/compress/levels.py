"""Quantization levels, and the type that each tensor of a model gets at a level.

The mixtures are those of llama.cpp's quantizer (src/llama-quant.cpp in its November 2026 builds): a level is one type
for most matrices, and better types where models are known to be sensitive.
`bench/compress/against_llama_cpp.py` compares tensor by tensor.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from baihua.core.errors import InputError
from baihua.modelfiles.description import Description, TensorShape
from baihua.modelfiles.shape import Shape

Q = GGMLQuantizationType
FLOATS = (Q.F32, Q.F16, Q.BF16)
FIRST = "f16"
"""The level that is always written, and from which the others are made."""
# The type that llama.cpp takes where the length of a row is not a multiple of a type's block.
FALLBACKS = {Q.IQ4_XS: Q.IQ4_NL, Q.Q2_K: Q.Q4_0, Q.Q3_K: Q.Q4_0}
FALLBACKS |= {Q.Q4_K: Q.Q5_0, Q.Q5_K: Q.Q5_1, Q.Q6_K: Q.Q8_0}
# In a model of 80 layers whose queries share keys, the small value matrices are worth more bits.
NUM_LAYERS_OF_70B = 80


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a matrix in its model, as far as the mixtures depend on it."""

    layer: int
    num_layers: int
    num_sharing: int
    """Query heads that share a key."""
    has_importance: bool

    @property
    def is_early(self) -> bool:
        """In the first eighth of the layers."""
        return self.layer < self.num_layers // 8

    @property
    def is_sensitive(self) -> bool:
        """In the first or last eighth of the layers, or every third between them."""
        eighth = self.num_layers // 8
        return self.is_early or self.layer >= 7 * self.num_layers // 8 or (self.layer - eighth) % 3 == 2


Rule = Callable[[Position], GGMLQuantizationType | None]
"""A better type for a matrix, or None for the level's own."""


@dataclass(frozen=True, slots=True)
class Level:
    """A quantization level."""

    type: GGMLQuantizationType
    rules: dict[str, Rule] = field(default_factory=dict)
    """Better types by the kind of matrix, such as `attn_v`."""

    @property
    def takes_importance(self) -> bool:
        """Whether an importance matrix changes the result; floats and 8 bits ignore it."""
        return self.type not in (*FLOATS, Q.Q8_0)


@dataclass(frozen=True, slots=True)
class TypeChoice:
    """The type of a tensor at a level; `wanted` differs where its rows do not fit that type's blocks."""

    tensor: TensorShape
    type: GGMLQuantizationType
    wanted: GGMLQuantizationType

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in the file."""
        block, num_block_bytes = GGML_QUANT_SIZES[self.type]
        return self.tensor.shape[0] // block * num_block_bytes

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensor in the file."""
        return self.tensor.num_rows * self.row_bytes


def _when(test: Callable[[Position], bool], better: GGMLQuantizationType) -> Rule:
    return lambda position: better if test(position) else None


def _when_early_with_importance(better: GGMLQuantizationType) -> dict[str, Rule]:
    return {"ffn_down": _when(lambda p: p.is_early and p.has_importance, better)}


_SENSITIVE: dict[str, Rule] = dict.fromkeys(("attn_v", "ffn_down"), _when(lambda p: p.is_sensitive, Q.Q6_K))
_FIRST_LAYERS: dict[str, Rule] = {
    "attn_v": _when(lambda p: p.layer < 4, Q.Q5_K),
    "ffn_down": _when(lambda p: p.is_early, Q.Q5_K),
}
_SHARED_OR_EARLY: dict[str, Rule] = {
    "attn_v": _when(lambda p: p.num_sharing >= 4, Q.Q5_K),
    "ffn_down": _when(lambda p: p.is_early and not p.has_importance, Q.Q5_K),
}
_THREE_BITS: dict[str, Rule] = {
    "attn_v": lambda p: Q.Q5_K if p.layer < 2 else Q.Q4_K,
    "attn_output": lambda _: Q.Q4_K,
    "ffn_down": lambda p: Q.Q5_K if p.layer < p.num_layers // 16 else Q.Q4_K,
}
_TWO_BITS: dict[str, Rule] = {
    "attn_v": lambda p: Q.Q4_K if p.num_sharing >= 4 else Q.Q3_K,
    "attn_output": lambda _: Q.Q3_K,
    "ffn_down": lambda _: Q.Q3_K,
}
LEVELS = {
    "f32": Level(Q.F32),
    "f16": Level(Q.F16),
    "bf16": Level(Q.BF16),
    "q8_0": Level(Q.Q8_0),
    "q6_k": Level(Q.Q6_K),
    "q5_k_m": Level(Q.Q5_K, _SENSITIVE),
    "q5_0": Level(Q.Q5_0, _when_early_with_importance(Q.Q5_1)),
    "q4_k_m": Level(Q.Q4_K, _SENSITIVE),
    "q4_k_s": Level(Q.Q4_K, _FIRST_LAYERS),
    "q4_0": Level(Q.Q4_0, _when_early_with_importance(Q.Q4_1)),
    "iq4_xs": Level(Q.IQ4_XS, _SHARED_OR_EARLY),
    "iq4_nl": Level(Q.IQ4_NL, _SHARED_OR_EARLY),
    "q3_k_m": Level(Q.Q3_K, _THREE_BITS),
    "q2_k": Level(Q.Q2_K, _TWO_BITS),
}


def file_type(level: str) -> LlamaFileType:
    """`general.file_type` of a file at a level."""
    return LlamaFileType["ALL_F32" if level == "f32" else f"MOSTLY_{level.upper()}"]


def check_level(name: str) -> Level:
    """The level of a name, or an InputError."""
    if name not in LEVELS:
        raise InputError(f"unknown level {name!r}", where="levels", fix=f"use one of: {', '.join(LEVELS)}")
    return LEVELS[name]


def choose_types(description: Description, level: str, *, has_importance: bool = False) -> list[TypeChoice]:
    """The type of every tensor, in the order of the tensors."""
    found: list[TypeChoice] = []
    for tensor in description.tensors:
        wanted = _wanted_type(description.shape, check_level(level), tensor, has_importance)
        fallbacks = (wanted, FALLBACKS.get(wanted, wanted), Q.F16)
        found.append(TypeChoice(tensor, next(one for one in fallbacks if _fits(tensor, one)), wanted))
    return found


def _wanted_type(shape: Shape, level: Level, tensor: TensorShape, has_importance: bool) -> GGMLQuantizationType:
    """The type of a tensor whose rows fit the blocks of every type."""
    if not tensor.is_matrix:
        # Norms and biases stay as they are: llama.cpp requires them in float32, and they are few.
        return Q.F32
    if level.type in FLOATS:
        return level.type
    if tensor.name == ("token_embd.weight" if shape.is_tied else "output.weight"):
        # The output layer, or the embeddings that serve as one: never below 6 bits.
        return Q.Q6_K if _fits(tensor, level.type) and level.type != Q.Q8_0 else Q.Q8_0
    if tensor.kind not in level.rules:
        return level.type
    num_sharing = shape.num_heads // shape.num_kv_heads
    position = Position(tensor.layer, shape.num_layers, num_sharing, has_importance)
    chosen = level.rules[tensor.kind](position) or level.type
    is_70b = shape.num_layers == NUM_LAYERS_OF_70B and num_sharing > 1
    return Q.Q5_K if is_70b and tensor.kind == "attn_v" and chosen in (Q.Q3_K, Q.Q4_K) else chosen


def _fits(tensor: TensorShape, type_: GGMLQuantizationType) -> bool:
    return tensor.shape[0] % GGML_QUANT_SIZES[type_][0] == 0
