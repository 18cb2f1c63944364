"""The model families that Baihua supports (dense decoders close to Llama), and the names of their tensors."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baihua.core.errors import InputError

OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
"""Modules outside the layers: their names in llama.cpp and in transformers."""
LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Modules of a layer, likewise."""
NORMS = ("attn_norm", "ffn_norm")
ATTENTION = ("attn_q", "attn_k", "attn_v", "attn_output")
HEAD_NORMS = ("attn_q_norm.weight", "attn_k_norm.weight")
MLP = ("ffn_gate", "ffn_up", "ffn_down")
BIASES = tuple(f"{name}.bias" for name in (*ATTENTION, *MLP))

_LLAMA_CPP_OUTER = {theirs: ours for ours, theirs in OUTER.items()}
_LLAMA_CPP_LAYER = {theirs: ours for ours, theirs in LAYER.items()}
_NAME = re.compile(r"(?:model\.layers\.(\d+)\.)?(.*?)(\.weight|\.bias)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Family:
    """The names of a family in transformers and llama.cpp, and its tensors, which have llama.cpp's names."""

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
    """Tensors of a layer that only some models have."""

    @property
    def layer_tensors(self) -> tuple[str, ...]:
        """Every required tensor of a layer, such as `attn_q.weight`."""
        return tuple(f"{name}.weight" for name in (*NORMS, *ATTENTION, *MLP)) + self.extra_tensors


FAMILIES = {
    family.model_type: family
    for family in (
        Family("llama", "LlamaForCausalLM", "llama", rotates_neighbours=True, optional_tensors=BIASES),
        Family("mistral", "MistralForCausalLM", "llama", rotates_neighbours=True),
        Family("qwen2", "Qwen2ForCausalLM", "qwen2", extra_tensors=BIASES[:3]),
        Family("qwen3", "Qwen3ForCausalLM", "qwen3", extra_tensors=HEAD_NORMS, optional_tensors=BIASES[:4]),
    )
}


def family_of(config: Mapping[str, Any], where: Path) -> Family:
    """The family of a config.json; an InputError for an unknown one."""
    family = FAMILIES.get(str(config.get("model_type")))
    classes = config.get("architectures")
    if family is None or classes not in (None, [family.class_name]):
        known = ", ".join(f"{one.model_type} ({one.class_name})" for one in FAMILIES.values())
        what = f"the model is of type {config.get('model_type')!r} with architectures {classes}; known are {known}"
        fix = "use a dense model of one of these families; merge an adapter into its base model first"
        raise InputError(what, where=str(where), fix=fix)
    return family


def family_of_architecture(architecture: str) -> Family:
    """The family of a GGUF file's architecture; Mistral's dense models are Llamas there."""
    return next(family for family in FAMILIES.values() if family.architecture == architecture)


def transformers_name(name: str) -> str:
    """The name in transformers of a tensor of these families that has llama.cpp's name."""
    *layer, module, ending = name.split(".")
    return f"model.layers.{layer[1]}.{LAYER[module]}.{ending}" if layer else f"{OUTER[module]}.{ending}"


def llama_cpp_name(name: str) -> str | None:
    """The name in llama.cpp of a tensor or module that has transformers' name; None where llama.cpp has none."""
    match = _NAME.fullmatch(name)
    assert match, "the pattern matches every text"
    layer, module, ending = match.groups("")
    if layer:
        return f"blk.{layer}.{_LLAMA_CPP_LAYER[module]}{ending}" if module in _LLAMA_CPP_LAYER else None
    return f"{_LLAMA_CPP_OUTER[module]}{ending}" if module in _LLAMA_CPP_OUTER else None
