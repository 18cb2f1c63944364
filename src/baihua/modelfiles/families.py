"""The families of models that Baihua knows: dense decoders that differ from Llama in a few tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baihua.core.errors import InputError

NORMS, ATTENTION, MLP = (
    ("attn_norm", "ffn_norm"),
    ("attn_q", "attn_k", "attn_v", "attn_output"),
    ("ffn_gate", "ffn_up", "ffn_down"),
)


@dataclass(frozen=True, slots=True)
class Family:
    """What transformers and llama.cpp call a family, and what sets it apart. Tensors have llama.cpp's names."""

    model_type: str
    class_name: str
    """The class of transformers."""
    architecture: str
    """`general.architecture` of a GGUF file."""
    rotates_neighbours: bool = False
    """Whether llama.cpp rotates dimension 2i with 2i + 1, where transformers rotates i with i + half a head."""
    extra_tensors: tuple[str, ...] = ()
    """Tensors of a layer that a Llama does not have."""
    optional_tensors: tuple[str, ...] = ()
    """Tensors of a layer that only some have."""

    @property
    def layer_tensors(self) -> tuple[str, ...]:
        """Every tensor that a layer must have, with its ending."""
        return tuple(f"{name}.weight" for name in (*NORMS, *ATTENTION, *MLP)) + self.extra_tensors


BIASES = tuple(f"{name}.bias" for name in (*ATTENTION, *MLP))
FAMILIES = {
    family.model_type: family
    for family in (
        Family("llama", "LlamaForCausalLM", "llama", rotates_neighbours=True, optional_tensors=BIASES),
        Family("mistral", "MistralForCausalLM", "llama", rotates_neighbours=True),
        Family("qwen2", "Qwen2ForCausalLM", "qwen2", extra_tensors=tuple(f"{name}.bias" for name in ATTENTION[:3])),
        Family(
            "qwen3",
            "Qwen3ForCausalLM",
            "qwen3",
            extra_tensors=("attn_q_norm.weight", "attn_k_norm.weight"),
            optional_tensors=BIASES[:4],
        ),
    )
}


def family_of(config: Mapping[str, Any], where: Path) -> Family:
    """The family of a config.json; an InputError for one that is not known."""
    family = FAMILIES.get(str(config.get("model_type")))
    classes = config.get("architectures")
    if family is None or classes not in (None, [family.class_name]):
        known = ", ".join(f"{one.model_type} ({one.class_name})" for one in FAMILIES.values())
        raise InputError(
            f"the model is of type {config.get('model_type')!r} with architectures {classes}; known are {known}",
            where=str(where),
            fix="use a dense model of one of these families; merge an adapter into its base model first",
        )
    return family
