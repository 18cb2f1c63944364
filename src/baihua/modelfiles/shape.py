"""The shape of a model: the numbers in its config.json or GGUF header that decide its memory and work."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baihua.core.errors import InputError
from baihua.modelfiles.gguf_header import GgufHeader, read_model_header

REQUIRED = (
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "vocab_size",
)
"""Keys of a config.json without which a model has no shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of a dense decoder of the Llama family."""

    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    width: int
    mlp_width: int
    num_tokens: int
    """Rows of the embedding; the tokenizer may have fewer tokens."""
    context_length: int
    """Most tokens of a text."""
    is_tied: bool
    """Whether the embedding is also the output layer."""

    @property
    def query_width(self) -> int:
        """Outputs of the query projection."""
        return self.num_heads * self.head_dim

    @property
    def key_width(self) -> int:
        """Outputs of the key projection, and of the value projection."""
        return self.num_kv_heads * self.head_dim

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of a layer's matrices."""
        queries, keys, mlp = (self.width, self.query_width), (self.width, self.key_width), (self.width, self.mlp_width)
        attention = {"q_proj": queries, "k_proj": keys, "v_proj": keys, "o_proj": queries[::-1]}
        return attention | {"gate_proj": mlp, "up_proj": mlp, "down_proj": mlp[::-1]}

    @property
    def num_layer_weights(self) -> int:
        """Weights of one layer's matrices."""
        return sum(inputs * outputs for inputs, outputs in self.linears.values())

    @property
    def num_head_weights(self) -> int:
        """Weights of the output layer."""
        return self.num_tokens * self.width

    @property
    def num_weights(self) -> int:
        """Weights of all matrices; norms and biases, about a thousandth, are left out."""
        return self.num_layers * self.num_layer_weights + self.num_head_weights * (1 if self.is_tied else 2)


def read_shape(config: Mapping[str, Any], where: str = "config.json") -> Shape:
    """The shape that a config.json describes; an InputError when it lacks a size."""
    wrong = [name for name in REQUIRED if not isinstance(config.get(name), int) or config[name] < 1]
    if wrong:
        what = f"config.json has {config.get(wrong[0])!r} for {wrong[0]!r}, expected a positive number"
        fix = "download the model again, or use the config.json that belongs to these weights"
        raise InputError(what, where=where, fix=fix)
    num_heads, width = config["num_attention_heads"], config["hidden_size"]
    context, window = config["max_position_embeddings"], config.get("sliding_window")
    # Where attention is limited to a window, llama.cpp's graphs of these families stop there too.
    has_window = bool(window) and config.get("use_sliding_window", True)
    return Shape(
        num_layers=config["num_hidden_layers"],
        num_heads=num_heads,
        num_kv_heads=config.get("num_key_value_heads") or num_heads,
        head_dim=config.get("head_dim") or width // num_heads,
        width=width,
        mlp_width=config["intermediate_size"],
        num_tokens=config["vocab_size"],
        context_length=min(context, window) if has_window else context,
        is_tied=bool(config.get("tie_word_embeddings")),
    )


def shape_of_header(header: GgufHeader) -> Shape:
    """The shape in a header that `read_model_header` has checked."""
    num_heads, width = header.size("attention.head_count"), header.size("embedding_length")
    num_kv_heads, head_dim = header.of_model("attention.head_count_kv"), header.of_model("attention.key_length")
    rows = {tensor.name: tensor.shape[-1] for tensor in header.tensors if not tensor.name.startswith("blk.")}
    return Shape(
        num_layers=header.size("block_count"),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads if isinstance(num_kv_heads, int) else num_heads,
        head_dim=head_dim if isinstance(head_dim, int) else width // num_heads,
        width=width,
        mlp_width=header.size("feed_forward_length"),
        num_tokens=rows.get("token_embd.weight", 0),
        context_length=header.size("context_length"),
        is_tied="output.weight" not in rows,
    )


def shape_of(model: Path) -> Shape:
    """The shape of a model folder or a GGUF file."""
    if model.is_file():
        return shape_of_header(read_model_header(model))
    file = model / "config.json"
    return read_shape(json.loads(file.read_text(encoding="utf-8")), str(file))
