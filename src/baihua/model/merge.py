"""Merging of an adapter into its base model, layer by layer, so that a large model needs little memory."""

import hashlib
import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import peft
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import PreTrainedModel

from baihua.core.errors import InputError
from baihua.core.files import write_json
from baihua.model.adapter import WEIGHTS, read_config
from baihua.model.load import save_chat_files
from baihua.model.streamed import EMBEDDINGS, HEAD, Skeleton, open_skeleton, stream
from baihua.model.weights import ShardWriter
from baihua.modelfiles.folder import read_json

Written = Literal["base", "float32", "bfloat16", "float16"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TIED_ROWS = r"base_model\.model\.lm_head\.trainable_tokens_delta\.default"


def open_adapted(base: Path, adapter: Path) -> PreTrainedModel:
    """Base and adapter together in float32, the base's weights in memory only while a layer works."""
    skeleton = open_skeleton(base)
    adapted = _attach_to(skeleton, adapter)
    stream(adapted, skeleton.weights)
    return adapted


def attach(model: PreTrainedModel, adapter: Path, **settings: Any) -> peft.PeftModel:
    """A model in memory with an adapter attached, not merged; an adapter that lacks tensors is refused."""
    config = read_config(adapter)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            # A tied output layer follows the trained input rows and has no tensors itself; peft warns all the same.
            warnings.filterwarnings("ignore", message=rf"Found missing adapter keys [^']*\['{TIED_ROWS}'\]")
            warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
            return peft.PeftModel.from_pretrained(model, str(adapter), config=config, **settings)
    except (SafetensorError, RuntimeError, UserWarning, KeyError, ValueError) as error:
        raise InputError(f"cannot load the adapter: {error}", where=str(adapter), fix="train it again") from error


def merge_into(folder: Path, base: Path, adapter: Path, *, dtype: Written = "base", jinja: str | None) -> None:
    """Write the merged model as a folder that can chat; needs memory for one shard and the widest layer.

    Merges in float32, then rounds to the base's dtype or to another; a NaN or infinite result is an InputError, a shard
    that reads back differently a RunError. `config.json` is written last: without it the folder is not a model.
    """
    skeleton = open_skeleton(base)
    adapted = _attach_to(skeleton, adapter)
    writer = ShardWriter(folder)
    is_tied, digests = skeleton.is_tied, set[bytes]()
    for path, merged in _merged_weights(skeleton, adapted):
        stored = merged.to(DTYPES.get(dtype) or skeleton.weights.files.dtype_of(skeleton.names[path]))
        if not torch.isfinite(stored).all():
            raise _not_finite(path, merged, skeleton, adapter)
        if skeleton.is_tied and path in (EMBEDDINGS, HEAD):
            digests.add(hashlib.sha256(stored.contiguous().view(torch.uint8).numpy().data).digest())
            is_tied = len(digests) == 1
        if path != HEAD or not is_tied:
            writer.add(path, stored)
    writer.close()
    save_chat_files(folder, tokenizer_from=base, jinja=jinja)
    settings = read_json(base / "config.json") | {"tie_word_embeddings": is_tied}
    # Code that comes with a model is neither run nor copied.
    settings.pop("auto_map", None)
    if dtype != "base":
        settings.pop("torch_dtype", None)
        settings["dtype"] = dtype
    write_json(folder / "config.json", settings)


def _merged_weights(skeleton: Skeleton, adapted: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    """The parameters of the base by name, in its order, each merged in float32 as the iterator advances."""
    for owner, paths in itertools.groupby(skeleton.names, key=lambda path: path.rpartition(".")[0]):
        layer = adapted.get_submodule(owner)
        with skeleton.weights.loaded(layer):
            plain = _merge_layer(layer)
            yield from ((path, plain.get_parameter(path.rpartition(".")[2]).detach()) for path in paths)


@torch.no_grad()
def _merge_layer(layer: nn.Module) -> nn.Module:
    """A layer of the base with its adapter merged, as PeftModel.merge_and_unload does it for all layers at once."""
    if isinstance(layer, AuxiliaryTrainingWrapper):
        return layer.unload_and_optionally_merge_module(merge=True, safe_merge=False, adapter_names=None)
    if not isinstance(layer, BaseTunerLayer):
        return layer
    layer.merge()
    return layer.get_base_layer()


def _attach_to(skeleton: Skeleton, adapter: Path) -> PreTrainedModel:
    """The skeleton's model with an adapter in memory attached to each layer."""
    adapted = attach(skeleton.model, adapter, low_cpu_mem_usage=True, torch_device="cpu")
    known = set(peft.get_peft_model_state_dict(adapted, save_embedding_layers=False))
    # Trained biases, and rows of a vocabulary that grew: they replace the base's. If the output layer is tied to the
    # rows, it is unknown which of the two they belong to.
    known |= set() if skeleton.is_tied else {f"base_model.model.{path}" for path in skeleton.names}
    with safe_open(adapter / WEIGHTS, framework="pt") as file:
        unknown = sorted(set(file.keys()) - known)
    if unknown:
        what = f"the adapter has {len(unknown)} tensors that the model does not have, the first is {unknown[0]!r}"
        raise InputError(what, where=str(adapter), fix="give the model that the adapter was trained on")
    return adapted.get_base_model()  # pyright: ignore[reportReturnType]  (the class that it was given)


def _not_finite(path: str, merged: torch.Tensor, skeleton: Skeleton, adapter: Path) -> InputError:
    """The error for a non-finite weight: base, adapter or dtype."""
    if torch.isfinite(merged).all():
        return InputError(f"{path!r} has numbers too large for float16", where="dtype", fix="give bfloat16 or float32")
    files, name = skeleton.weights.files, skeleton.names[path]
    if not torch.isfinite(files.read(name)).all():
        what, where, fix = "base", files.places[name].file, "import the base again"
    else:
        what, where, fix = "merged model", adapter, "the adapter is damaged: train it again"
    return InputError(f"{path!r} of the {what} has NaN or infinite values", where=str(where), fix=fix)
