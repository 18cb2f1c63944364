"""Which type each tensor gets, against what llama.cpp is known to do."""

from collections import Counter
from typing import Any

import pytest

from baihua.compress.levels import LEVELS, check_level, choose_types
from baihua.core.errors import InputError
from baihua.modelfiles.description import Description, describe_shape
from baihua.modelfiles.shape import Shape

LLAMA_7B = {"num_layers": 32, "width": 4096, "mlp_width": 11008, "num_heads": 32, "num_kv_heads": 32}
SMOLLM2 = {"num_layers": 30, "width": 576, "mlp_width": 1536, "num_heads": 9, "num_kv_heads": 3}
LLAMA_70B = {"num_layers": 80, "width": 8192, "mlp_width": 28672, "num_heads": 64, "num_kv_heads": 8}


def model(*, num_tokens: int, is_tied: bool = False, **sizes: Any) -> Description:
    """A Llama of given sizes."""
    head_dim = sizes["width"] // sizes["num_heads"]
    shape = Shape(head_dim=head_dim, num_tokens=num_tokens, context_length=4096, is_tied=is_tied, **sizes)
    return describe_shape(shape)


# Counts that llama.cpp prints when it opens published files of Llama 2 7B, and the mixture of SmolLM2 in
# docs/log.md, whose rows of 576 fit no block of 256.
KNOWN = [
    (LLAMA_7B, False, "q8_0", {"F32": 65, "Q8_0": 226}),
    (LLAMA_7B, False, "q6_k", {"F32": 65, "Q6_K": 226}),
    (LLAMA_7B, False, "q5_k_m", {"F32": 65, "Q5_K": 193, "Q6_K": 33}),
    (LLAMA_7B, False, "q4_k_m", {"F32": 65, "Q4_K": 193, "Q6_K": 33}),
    (LLAMA_7B, False, "q4_k_s", {"F32": 65, "Q4_K": 217, "Q5_K": 8, "Q6_K": 1}),
    (LLAMA_7B, False, "q3_k_m", {"F32": 65, "Q3_K": 129, "Q4_K": 92, "Q5_K": 4, "Q6_K": 1}),
    (LLAMA_7B, False, "q2_k", {"F32": 65, "Q2_K": 129, "Q3_K": 96, "Q6_K": 1}),
    (LLAMA_7B, False, "q4_0", {"F32": 65, "Q4_0": 225, "Q6_K": 1}),
    (SMOLLM2, True, "q4_k_m", {"F32": 61, "Q5_0": 166, "Q4_K": 16, "Q6_K": 14, "Q8_0": 15}),
    (SMOLLM2, True, "f16", {"F32": 61, "F16": 211}),
]


@pytest.mark.parametrize(("sizes", "is_tied", "level", "counts"), KNOWN)
def test_the_mixture_is_llama_cpps(sizes: dict[str, int], is_tied: bool, level: str, counts: dict[str, int]) -> None:
    choices = choose_types(model(num_tokens=32000, is_tied=is_tied, **sizes), level)
    assert Counter(choice.type.name for choice in choices) == counts


def test_a_published_file_has_the_size_that_is_foreseen() -> None:
    choices = choose_types(model(num_tokens=32000, **LLAMA_7B), "q4_k_m")
    # 4,081,004,224 bytes with vocabulary and names, which are less than 1 MB.
    assert 4_080_000_000 < sum(choice.num_bytes for choice in choices) < 4_081_004_224


def test_value_matrices_that_many_queries_share_get_more_bits() -> None:
    chosen = {c.tensor.name: c.type.name for c in choose_types(model(num_tokens=32000, **LLAMA_70B), "q3_k_m")}
    assert chosen["blk.5.attn_v.weight"] == "Q5_K"
    chosen = {c.tensor.name: c.type.name for c in choose_types(model(num_tokens=32000, **LLAMA_70B), "iq4_xs")}
    assert chosen["blk.5.attn_v.weight"] == "Q5_K"
    assert chosen["blk.5.ffn_down.weight"] == "Q5_K"
    assert chosen["blk.15.ffn_down.weight"] == "IQ4_XS"


@pytest.mark.parametrize(("level", "with_it", "without"), [("q4_0", "Q4_1", "Q4_0"), ("iq4_nl", "IQ4_NL", "Q5_K")])
def test_an_importance_matrix_changes_the_first_layers(level: str, with_it: str, without: str) -> None:
    described = model(num_tokens=32000, **LLAMA_7B)
    for has_importance, wanted in ((True, with_it), (False, without)):
        choices = choose_types(described, level, has_importance=has_importance)
        chosen = {choice.tensor.name: choice.type.name for choice in choices}
        assert chosen["blk.0.ffn_down.weight"] == wanted
        assert chosen["blk.31.ffn_down.weight"] == level.upper()


def test_rows_that_fit_no_block_are_float16() -> None:
    odd = model(num_tokens=100, num_layers=2, width=48, mlp_width=80, num_heads=4, num_kv_heads=4)
    assert {choice.type.name for choice in choose_types(odd, "q4_0")} == {"F16", "F32"}


def test_only_levels_below_eight_bits_take_an_importance_matrix() -> None:
    takers = [name for name, level in LEVELS.items() if level.takes_importance]
    assert takers == [name for name in LEVELS if name not in ("f32", "f16", "bf16", "q8_0")]


def test_an_unknown_level_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown level 'q4'(.|\n)*where: levels(.|\n)*fix:   use one of: f32, f16"):
        check_level("q4")
