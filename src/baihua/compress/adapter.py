"""Export of a LoRA adapter to a GGUF file, which llama.cpp adds to its base while it answers."""

import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import peft
from gguf import GGUFWriter
from peft.utils.other import get_pattern_key
from safetensors import safe_open

from baihua.compress.export import in_gguf_order
from baihua.core.errors import InputError
from baihua.core.files import appearing
from baihua.model.adapter import WEIGHTS, read_config
from baihua.modelfiles.description import Description, describe
from baihua.modelfiles.families import llama_cpp_name

PREFIX = "base_model.model."
ENDINGS = {".lora_A.weight": ".lora_a", ".lora_B.weight": ".lora_b"}


def write_adapter(adapter: Path, base: Path, file: Path) -> int:
    """Write a PEFT folder as a GGUF file for a base (a GGUF file or a model folder); returns the number of matrices.

    Matrices are float32, and the second of each pair contains the adapter's scale: llama.cpp knows a single scale for
    all, and none that divides by the root of the rank.
    """
    config = read_config(adapter)
    if not isinstance(config, peft.LoraConfig):
        raise _refused("rows of new tokens are not a LoRA", adapter)
    reasons = {
        "DoRA changes the norms of the base's own columns": config.use_dora,
        "it contains whole rows or modules besides its LoRA": config.modules_to_save or config.trainable_token_indices,
        "it contains trained biases": config.bias != "none" or config.lora_bias,
    }
    for reason, applies in reasons.items():
        if applies:
            raise _refused(reason, adapter)
    description = describe(base)
    matrices = dict(_read_matrices(adapter, config, description))
    with appearing(file) as partial, closing(GGUFWriter(partial, description.family.architecture)) as writer:
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        # With 0 llama.cpp multiplies only by the strength that a request asks for.
        writer.add_float32("adapter.lora.alpha", 0.0)
        for name, weights in matrices.items():
            writer.add_tensor(name, weights)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    return len(matrices) // 2


def _read_matrices(adapter: Path, config: peft.LoraConfig, base: Description) -> Iterator[tuple[str, np.ndarray]]:
    """Both matrices of each adapted matrix of the base, by llama.cpp's names."""
    shapes = {tensor.name: tensor.shape for tensor in base.tensors}
    with safe_open(adapter / WEIGHTS, "np") as tensors:
        for source in sorted(tensors.keys()):
            ending = next((one for one in ENDINGS if source.endswith(one)), None)
            if ending is None or not source.startswith(PREFIX):
                raise _refused(f"it contains {source!r}", adapter)
            module = source.removeprefix(PREFIX).removesuffix(ending)
            name = llama_cpp_name(f"{module}.weight")
            if name is None or name not in shapes:
                raise _refused(f"it changes {module!r}, which is not a separate matrix of this base", adapter)
            weights = tensors.get_tensor(source).astype(np.float32)
            width, height = shapes[name]
            # The first matrix of a pair reads a row of the base's matrix, the second one writes a column.
            is_first = ENDINGS[ending] == ".lora_a"
            if not (weights.shape[1] == width if is_first else weights.shape[0] == height):
                shape = f"the shape {list(weights.shape)}, the base's has {[height, width]}"
                fix = "give the base that the adapter was trained on"
                raise InputError(f"its matrix for {module!r} has {shape}", where=str(adapter), fix=fix)
            if not is_first:
                weights = in_gguf_order(weights * _scale(config, module, weights.shape[1]), name, base)
            yield name + ENDINGS[ending], np.ascontiguousarray(weights)


def _scale(config: peft.LoraConfig, module: str, rank: int) -> float:
    """PEFT's alpha/rank, or alpha/sqrt(rank) (rsLoRA, arXiv 2312.03732), alpha being set for all or single modules."""
    patterns = config.alpha_pattern or {}
    alpha = patterns.get(get_pattern_key(list(patterns), module), config.lora_alpha)
    return alpha / (math.sqrt(rank) if config.use_rslora else rank)


def _refused(why: str, adapter: Path) -> InputError:
    what = f"llama.cpp cannot add this adapter while it answers: {why}"
    return InputError(what, where=str(adapter), fix="merge it into its base and serve the result: baihua do merge")
