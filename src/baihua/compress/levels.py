"""Quantization levels: which type each tensor of a model gets, as llama.cpp mixes them.

The mixtures are facts about llama.cpp's quantizer (src/llama-quant.cpp of its November 2026 builds): a level is a type
for most matrices, and better ones where a model is known to be sensitive. `bench/compress` compares tensor by tensor.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from baihua.core.errors import InputError
from baihua.modelfiles.describe import Described, TensorShape

Q = GGMLQuantizationType
FLOATS = (Q.F32, Q.F16, Q.BF16)
# What llama.cpp takes where the length of a row is no multiple of a type's block.
FALLBACKS = {
    Q.IQ4_XS: Q.IQ4_NL,
    Q.Q2_K: Q.Q4_0,
    Q.Q3_K: Q.Q4_0,
    Q.Q4_K: Q.Q5_0,
    Q.Q5_K: Q.Q5_1,
    Q.Q6_K: Q.Q8_0,
}
# A model of 80 layers whose queries share keys: its small value matrices are worth more bits.
NUM_LAYERS_OF_70B = 80


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a model a matrix is, as far as the mixtures look."""

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


Rule = Callable[[Place], GGMLQuantizationType | None]
"""A better type for a matrix, or None for the level's own."""


@dataclass(frozen=True, slots=True)
class Level:
    """A quantization level."""

    type: GGMLQuantizationType
    file_type: LlamaFileType
    """`general.file_type` of the file."""
    rules: dict[str, Rule] = field(default_factory=dict)
    """Better types by the kind of matrix, such as `attn_v`."""

    @property
    def takes_importance(self) -> bool:
        """Whether an importance matrix changes the result: types of 8 bits and floats have no use for one."""
        return self.type not in (*FLOATS, Q.Q8_0)


@dataclass(frozen=True, slots=True)
class Choice:
    """The type of a tensor in a level; `wanted` differs where the length of its rows did not fit."""

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


def _where(test: Callable[[Place], bool], type_: GGMLQuantizationType) -> Rule:
    return lambda place: type_ if test(place) else None


def _always(type_: GGMLQuantizationType) -> Rule:
    return lambda place: type_


_SHARED = _where(lambda place: place.num_sharing >= 4, Q.Q5_K)
_EARLY_WITHOUT = _where(lambda place: place.is_early and not place.has_importance, Q.Q5_K)
_SENSITIVE = _where(lambda place: place.is_sensitive, Q.Q6_K)
LEVELS = {
    "f32": Level(Q.F32, LlamaFileType.ALL_F32),
    "f16": Level(Q.F16, LlamaFileType.MOSTLY_F16),
    "bf16": Level(Q.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": Level(Q.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q6_k": Level(Q.Q6_K, LlamaFileType.MOSTLY_Q6_K),
    "q5_k_m": Level(Q.Q5_K, LlamaFileType.MOSTLY_Q5_K_M, {"attn_v": _SENSITIVE, "ffn_down": _SENSITIVE}),
    "q5_0": Level(
        Q.Q5_0,
        LlamaFileType.MOSTLY_Q5_0,
        {"ffn_down": _where(lambda place: place.is_early and place.has_importance, Q.Q5_1)},
    ),
    "q4_k_m": Level(Q.Q4_K, LlamaFileType.MOSTLY_Q4_K_M, {"attn_v": _SENSITIVE, "ffn_down": _SENSITIVE}),
    "q4_k_s": Level(
        Q.Q4_K,
        LlamaFileType.MOSTLY_Q4_K_S,
        {
            "attn_v": _where(lambda place: place.layer < 4, Q.Q5_K),
            "ffn_down": _where(lambda place: place.is_early, Q.Q5_K),
        },
    ),
    "q4_0": Level(
        Q.Q4_0,
        LlamaFileType.MOSTLY_Q4_0,
        {"ffn_down": _where(lambda place: place.is_early and place.has_importance, Q.Q4_1)},
    ),
    "iq4_xs": Level(Q.IQ4_XS, LlamaFileType.MOSTLY_IQ4_XS, {"attn_v": _SHARED, "ffn_down": _EARLY_WITHOUT}),
    "iq4_nl": Level(Q.IQ4_NL, LlamaFileType.MOSTLY_IQ4_NL, {"attn_v": _SHARED, "ffn_down": _EARLY_WITHOUT}),
    "q3_k_m": Level(
        Q.Q3_K,
        LlamaFileType.MOSTLY_Q3_K_M,
        {
            "attn_v": lambda place: Q.Q5_K if place.layer < 2 else Q.Q4_K,
            "attn_output": _always(Q.Q4_K),
            "ffn_down": lambda place: Q.Q5_K if place.layer < place.num_layers // 16 else Q.Q4_K,
        },
    ),
    "q2_k": Level(
        Q.Q2_K,
        LlamaFileType.MOSTLY_Q2_K,
        {
            "attn_v": lambda place: Q.Q4_K if place.num_sharing >= 4 else Q.Q3_K,
            "attn_output": _always(Q.Q3_K),
            "ffn_down": _always(Q.Q3_K),
        },
    ),
}


def check_level(name: str) -> Level:
    """The level of a name, or an InputError."""
    if name not in LEVELS:
        raise InputError(f"unknown level {name!r}", where="levels", fix=f"use one of: {', '.join(LEVELS)}")
    return LEVELS[name]


def choose_types(described: Described, level: str, *, has_importance: bool = False) -> list[Choice]:
    """The type of every tensor, in the order of the tensors."""
    return list(_choose(described, check_level(level), has_importance=has_importance))


def _choose(described: Described, level: Level, *, has_importance: bool) -> Iterator[Choice]:
    is_tied = not any(tensor.name == "output.weight" for tensor in described.tensors)
    for tensor in described.tensors:
        if not tensor.is_matrix:
            # Norms and biases stay as they are: llama.cpp wants them in float32, and they are few.
            yield Choice(tensor, Q.F32, Q.F32)
        elif level.type in FLOATS:
            yield Choice(tensor, level.type, level.type)
        else:
            is_head = tensor.name == "output.weight" or (is_tied and tensor.name == "token_embd.weight")
            wanted = _head_type(level, tensor) if is_head else _layer_type(described, level, tensor, has_importance)
            yield Choice(tensor, _fitting(wanted, tensor), wanted)


def _head_type(level: Level, tensor: TensorShape) -> GGMLQuantizationType:
    """The output layer, or the embeddings that serve as one: never below 6 bits."""
    fits = tensor.shape[0] % GGML_QUANT_SIZES[level.type][0] == 0
    return Q.Q6_K if fits and level.type != Q.Q8_0 else Q.Q8_0


def _layer_type(described: Described, level: Level, tensor: TensorShape, has_importance: bool) -> GGMLQuantizationType:
    rule = level.rules.get(tensor.kind)
    if rule is None:
        return level.type
    num_sharing = described.num_heads // described.num_kv_heads
    place = Place(tensor.layer, described.num_layers, num_sharing, has_importance)
    chosen = rule(place) or level.type
    is_70b = described.num_layers == NUM_LAYERS_OF_70B and num_sharing > 1
    return Q.Q5_K if is_70b and tensor.kind == "attn_v" and chosen in (Q.Q3_K, Q.Q4_K) else chosen


def _fitting(wanted: GGMLQuantizationType, tensor: TensorShape) -> GGMLQuantizationType:
    candidates: Sequence[GGMLQuantizationType] = (wanted, FALLBACKS.get(wanted, wanted), Q.F16)
    return next(type_ for type_ in candidates if tensor.shape[0] % GGML_QUANT_SIZES[type_][0] == 0)
