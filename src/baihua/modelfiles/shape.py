"""The widths of a model, which say how much memory and work it needs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Shape:
    """The widths of a model of the Llama family."""

    num_layers: int
    width: int
    mlp_width: int
    query_width: int
    key_width: int
    num_tokens: int
    """Of its vocabulary."""
    is_tied: bool

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of a layer's matrices."""
        wide, narrow = (self.width, self.query_width), (self.width, self.key_width)
        up = (self.width, self.mlp_width)
        return {"q_proj": wide, "k_proj": narrow, "v_proj": narrow, "o_proj": wide[::-1]} | {
            "gate_proj": up,
            "up_proj": up,
            "down_proj": up[::-1],
        }

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
        """All weights; norms and biases, a thousandth, are left out."""
        return self.num_layers * self.num_layer_weights + self.num_head_weights * (1 if self.is_tied else 2)


def read_shape(config: Mapping[str, Any]) -> Shape:
    """The shape that a model's config.json describes."""
    heads, width = config["num_attention_heads"], config["hidden_size"]
    head_width = config.get("head_dim") or width // heads
    return Shape(
        num_layers=config["num_hidden_layers"],
        width=width,
        mlp_width=config["intermediate_size"],
        query_width=heads * head_width,
        key_width=(config.get("num_key_value_heads") or heads) * head_width,
        num_tokens=config["vocab_size"],
        is_tied=config.get("tie_word_embeddings", False),
    )


def shape_of(folder: Path) -> Shape:
    """The shape of the model in a folder."""
    return read_shape(json.loads((folder / "config.json").read_text(encoding="utf-8")))
