"""The metadata of a GGUF file in the words of a config.json."""

from pathlib import Path
from typing import Any

import numpy as np

from baihua.core.errors import InputError
from baihua.modelfiles.families import family_of_architecture
from baihua.modelfiles.gguf_header import GgufHeader
from baihua.modelfiles.rope import DEFAULT_THETA, recognize
from baihua.modelfiles.shape import Shape, shape_of_header
from baihua.modelfiles.special_tokens import special_tokens_of

ROPE_FACTORS = "rope_freqs.weight"
FROM_FOLDER = "import the model from its Hugging Face folder instead of the .gguf file"


def config_of(header: GgufHeader, factors: np.ndarray | None, where: Path) -> dict[str, Any]:
    """The config.json of the model in a file; `factors` are its divisors of the rotary frequencies, if it has any."""
    family, shape, special = (
        family_of_architecture(header.architecture),
        shape_of_header(header),
        special_tokens_of(header),
    )
    _check_heads(header, shape, where)
    _check_vocabulary(header, shape, where)
    names = {tensor.name for tensor in header.tensors}
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
        **{f"{name}_token_id": special.by_name.get(name) for name in ("bos", "eos", "pad")},
    }
    if "blk.0.attn_output.bias" in names:
        config["attention_bias"] = True
    if "blk.0.ffn_up.bias" in names:
        config["mlp_bias"] = True
    return config


def _check_heads(header: GgufHeader, shape: Shape, where: Path) -> None:
    """These families rotate all numbers of a head, and their values are as wide as their keys."""
    for name in ("attention.value_length", "rope.dimension_count"):
        value = header.of_model(name, shape.head_dim)
        if value != shape.head_dim:
            raise InputError(
                f"{header.architecture}.{name} is {value}, expected the {shape.head_dim} numbers of an attention head",
                where=str(where),
                fix=FROM_FOLDER,
            )


def _check_vocabulary(header: GgufHeader, shape: Shape, where: Path) -> None:
    tokens = header.values.get("tokenizer.ggml.tokens")
    num_tokens = len(tokens) if isinstance(tokens, list) else 0
    if shape.num_tokens != num_tokens:
        raise InputError(
            f"the file's embedding has {shape.num_tokens:,} rows, its vocabulary {num_tokens:,} tokens",
            where=str(where),
            fix="the file is damaged: download or convert it again",
        )


def _rope(header: GgufHeader, factors: np.ndarray | None, where: Path) -> dict[str, Any]:
    theta = _shortest(header.of_model("rope.freq_base", DEFAULT_THETA))
    factor = _shortest(header.of_model("rope.scaling.factor", header.of_model("rope.scale_linear", 0.0)))
    # llama.cpp takes a factor without a type as linear.
    kind = header.of_model("rope.scaling.type", "linear" if factor else "none")
    found = recognize(factors, theta) if factors is not None else None
    if kind not in ("none", "linear") or (factors is not None and (found is None or kind == "linear")):
        raise InputError(
            f"the model stretches its positions (rope scaling {kind!r}, rope factors: {factors is not None}) in a way "
            "that cannot be read from a GGUF file; known are 'linear' and the factors of Llama 3.1 and 3.2",
            where=str(where),
            fix=FROM_FOLDER,
        )
    if found is not None:
        return found
    if kind == "linear" and factor:
        return {"rope_theta": theta, "rope_type": "linear", "factor": factor}
    return {"rope_theta": theta, "rope_type": "default"}


def _shortest(value: Any) -> float:
    """The shortest number that is the same in float32, which is how GGUF files hold it."""
    return float(str(np.float32(value)))
