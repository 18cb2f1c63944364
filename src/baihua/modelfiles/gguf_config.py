"""The config.json of the model in a GGUF file."""

from pathlib import Path
from typing import Any

import numpy as np

from baihua.core.errors import InputError
from baihua.modelfiles.families import family_of_architecture
from baihua.modelfiles.gguf_header import AGAIN, FROM_FOLDER, GgufHeader
from baihua.modelfiles.rope import DEFAULT_THETA, recognize
from baihua.modelfiles.shape import shape_of_header
from baihua.modelfiles.special_tokens import special_tokens_of


def config_of(header: GgufHeader, factors: np.ndarray | None, where: Path) -> dict[str, Any]:
    """The config.json of the model in a file; `factors` are its divisors of the rotary frequencies, if it has any."""
    family, shape = family_of_architecture(header.architecture), shape_of_header(header)
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
    if "blk.0.attn_output.bias" in names:
        config["attention_bias"] = True
    if "blk.0.ffn_up.bias" in names:
        config["mlp_bias"] = True
    return config


def _rope(header: GgufHeader, factors: np.ndarray | None, where: Path) -> dict[str, Any]:
    theta = _shortest(header.of_model("rope.freq_base", DEFAULT_THETA))
    factor = _shortest(header.of_model("rope.scaling.factor", header.of_model("rope.scale_linear", 0.0)))
    # llama.cpp takes a factor without a type as linear.
    kind = header.of_model("rope.scaling.type", "linear" if factor else "none")
    found = recognize(factors, theta) if factors is not None else None
    if kind not in ("none", "linear") or (factors is not None and (found is None or kind == "linear")):
        raise InputError(
            f"the model scales its positions (rope scaling {kind!r}, rope factors: {factors is not None}) in a way "
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
