"""Names of tensors in transformers and llama.cpp."""

import pytest
from gguf import get_tensor_name_map
from gguf.constants import MODEL_ARCH

from baihua.modelfiles.families import LAYER, OUTER, llama_cpp_name, transformers_name

NAMES = [*OUTER.values(), *(f"model.layers.7.{module}" for module in LAYER.values())]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_those_of_the_gguf_package(name: str) -> None:
    known = get_tensor_name_map(MODEL_ARCH.QWEN3, 8)
    assert llama_cpp_name(name) == known.get_name(name)
    assert llama_cpp_name(f"{name}.bias") == known.get_name(f"{name}.bias", try_suffixes=(".bias",))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_comes_back_from_llama_cpp(name: str) -> None:
    theirs = llama_cpp_name(f"{name}.weight")
    assert theirs and transformers_name(theirs) == f"{name}.weight"


@pytest.mark.parametrize(
    "name", ["", "norm", "model.layers.7", "model.layers.7.norm", "model.layers.x.mlp.up_proj", "mlp.up_proj.weight"]
)
def test_other_names_have_none_in_llama_cpp(name: str) -> None:
    assert llama_cpp_name(name) is None
