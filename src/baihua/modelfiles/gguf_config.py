"""The metadata of a GGUF file in the words of a config.json."""

from pathlib import Path
from typing import Any

import numpy as np

from baihua.core.errors import InputError
from baihua.modelfiles.families import family_of_architecture
from baihua.modelfiles.gguf_header import GgufHeader
from baihua.modelfiles.rope import DEFAULT_THETA, recognize

ROPE_FACTORS = "rope_freqs.weight"
FROM_FOLDER = "import the model from its Hugging Face folder instead of the .gguf file"
# Our name of a special token, and GGUF's.
SPECIAL = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}


def config_of(header: GgufHeader, factors: np.ndarray | None, where: Path) -> dict[str, Any]:
    """The config.json of the model in a file; `factors` are its divisors of the rotary frequencies, if it has any."""
    family = family_of_architecture(header.architecture)
    names = {tensor.name for tensor in header.tensors}
    config: dict[str, Any] = {
        "architectures": [family.class_name],
        "model_type": family.model_type,
        "vocab_size": _num_rows(header, where),
        "hidden_size": header.size("embedding_length"),
        "intermediate_size": header.size("feed_forward_length"),
        "num_hidden_layers": header.size("block_count"),
        "num_attention_heads": header.size("attention.head_count"),
        "num_key_value_heads": num_kv_heads(header),
        "head_dim": head_dim(header, where),
        "hidden_act": "silu",
        "max_position_embeddings": header.size("context_length"),
        "rms_norm_eps": _shortest(header.of_model("attention.layer_norm_rms_epsilon", 1e-6)),
        "rope_parameters": _rope(header, factors, where),
        "tie_word_embeddings": "output.weight" not in names,
        **{f"{name}_token_id": special_id(header, name) for name in ("bos", "eos", "pad")},
    }
    if "blk.0.attn_output.bias" in names:
        config["attention_bias"] = True
    if "blk.0.ffn_up.bias" in names:
        config["mlp_bias"] = True
    return config


def special_id(header: GgufHeader, name: str) -> int | None:
    """The id of the token that begins (`bos`), ends (`eos`), pads (`pad`) or stands for the unknown (`unk`)."""
    found = header.values.get(f"tokenizer.ggml.{SPECIAL[name]}_token_id")
    return found if isinstance(found, int) else None


def end_ids(header: GgufHeader) -> list[int]:
    """The tokens that the file names as ends: of a text, of a turn, of a message."""
    found = [header.values.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    return list(dict.fromkeys(token_id for token_id in found if isinstance(token_id, int)))


def num_kv_heads(header: GgufHeader) -> int:
    """Heads of keys and values."""
    found = header.of_model("attention.head_count_kv")
    return found if isinstance(found, int) else header.size("attention.head_count")


def head_dim(header: GgufHeader, where: Path) -> int:
    """Numbers of an attention head, of which every one is rotated."""
    default = header.size("embedding_length") // header.size("attention.head_count")
    key = header.of_model("attention.key_length", default)
    others = {name: header.of_model(name, key) for name in ("attention.value_length", "rope.dimension_count")}
    for name, value in others.items():
        if value != key:
            raise InputError(
                f"{header.architecture}.{name} is {value}, a head has {key} numbers; these models need both alike",
                where=str(where),
                fix=FROM_FOLDER,
            )
    assert isinstance(key, int), "the default is one"
    return key


def _num_rows(header: GgufHeader, where: Path) -> int:
    rows = next((tensor.shape[-1] for tensor in header.tensors if tensor.name == "token_embd.weight"), None)
    tokens = header.values.get("tokenizer.ggml.tokens")
    num_tokens = len(tokens) if isinstance(tokens, list) else 0
    if rows is not None and rows != num_tokens:
        raise InputError(
            f"the file's embedding has {rows:,} rows, its vocabulary {num_tokens:,} tokens",
            where=str(where),
            fix="the file is damaged: download or convert it again",
        )
    return num_tokens


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
