"""An adapter becomes part of its base model, only if it is its base."""

import json
import warnings
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from baihua.chat.tokenizer import FolderTokenizer
from baihua.core.errors import InputError, RunError
from baihua.core.log import logger
from baihua.model.load import fingerprint, load_model, source_of

TIED_ROWS = r"base_model\.model\.lm_head\.trainable_tokens_delta\.default"


def load_adapted(base: Path, adapter: Path) -> peft.PeftModel:
    """Base and adapter together in float32, the adapter still apart."""
    check_base(base, adapter)
    return attach(load_model(base), adapter)


def attach(model: PreTrainedModel, adapter: Path) -> peft.PeftModel:
    """A model in memory with an adapter beside it; one that lacks some of its tensors is refused."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            # A tied output layer follows the trained input rows and has no tensors of its own; peft warns all the same.
            warnings.filterwarnings("ignore", message=rf"Found missing adapter keys [^']*\['{TIED_ROWS}'\]")
            warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
            return peft.PeftModel.from_pretrained(model, str(adapter))
    except (SafetensorError, RuntimeError, UserWarning) as error:
        raise InputError(f"cannot load the adapter: {error}", where=str(adapter), fix="train it again") from error


def merge(base: Path, adapter: Path) -> PreTrainedModel:
    """The base with the adapter's matrices added to its own, in float32."""
    merged = load_adapted(base, adapter).merge_and_unload(safe_merge=True)
    assert isinstance(merged, PreTrainedModel), "peft gives back the class that it was given"
    return merged


def check_base(base: Path, adapter: Path) -> None:
    """Refuse an adapter that was trained on another model: vocabulary first, since that is the usual slip."""
    settings = _read_settings(adapter)
    num_base, num_adapter = _num_tokens(base), _num_tokens(adapter)
    if num_base and num_adapter and num_base != num_adapter:
        raise InputError(
            f"the base has {num_base:,} tokens, the adapter was trained with {num_adapter:,}",
            where=str(adapter),
            fix="give the model that the adapter was trained on; after `vocabulary` that is the extended one",
        )
    wanted, found = settings.get("revision") or "", fingerprint(base)
    if len(wanted) != len(found):
        logger.warning("the adapter does not say by fingerprint which base it belongs to; trusting that it is this one")
    elif wanted != found:
        raise InputError(
            f"the adapter was trained on {settings.get('base_model_name_or_path')!r} with fingerprint "
            f"{wanted[:12]}..., the base given is {source_of(base)!r} with {found[:12]}...",
            where=str(adapter),
            fix="give the model that the adapter was trained on",
        )


def check_same_weights(saved: PreTrainedModel, reloaded: PreTrainedModel) -> None:
    """Compare every tensor bit by bit: no text reaches every row of a matrix, so no text would find each damage."""
    wanted, found = saved.state_dict(), reloaded.state_dict()
    assert wanted.keys() == found.keys(), "the same class and config have the same tensors"
    wrong = [name for name, tensor in wanted.items() if not torch.equal(tensor, found[name])]
    if wrong:
        raise RunError(
            f"{len(wrong)} tensors differ from what was saved after reading them back, the first is {wrong[0]!r}",
            fix="check the disk and run the stage again",
        )


def _read_settings(adapter: Path) -> dict[str, Any]:
    file = adapter / "adapter_config.json"
    if not file.is_file():
        raise InputError(
            "this is not an adapter: it has no adapter_config.json",
            where=str(adapter),
            fix="give the output of a `tune` stage whose method makes an adapter",
        )
    return json.loads(file.read_text(encoding="utf-8"))


def _num_tokens(folder: Path) -> int | None:
    """Size of the vocabulary; an adapter of another tool may come without one."""
    return FolderTokenizer(folder).num_tokens if (folder / "tokenizer.json").is_file() else None
