"""Models loaded from folders and saved as folders, as safetensors."""

import importlib.util
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GenerationConfig, PreTrainedModel

from baihua.chat.template import OWN, end_of_turn, load_template
from baihua.chat.tokenizer import FolderTokenizer
from baihua.core.errors import InputError
from baihua.core.log import logger
from baihua.model.weights import copy_weights
from baihua.modelfiles.folder import TEMPLATE_FILE, Precision, check_model_folder, copy_tokenizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_model(
    folder: Path,
    *,
    dtype: Precision = "float32",
    quantization: BitsAndBytesConfig | None = None,
    device: torch.device | None = None,
) -> PreTrainedModel:
    """A causal language model from a folder; only safetensors, no code from the folder, no network.

    With `quantization` its linear layers are quantized while they are read, on `device`, where they stay.
    """
    refuse_hub_kernels()
    check_model_folder(folder)
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            quantization_config=quantization,
            device_map=None if device is None else {"": device},
        )
    except (ValueError, OSError) as error:
        raise InputError(f"cannot load this model: {error}", where=str(folder), fix="import the model again") from error
    model, report = cast(tuple[PreTrainedModel, dict[str, Any]], loaded)
    wrong = sorted(report["missing_keys"]) + sorted(str(key[0]) for key in report["mismatched_keys"])
    if wrong:
        what = f"{len(wrong)} tensors are missing or of another shape, the first is {wrong[0]!r}"
        raise InputError(f"the weights do not fit config.json: {what}", where=str(folder), fix="import the model again")
    return model


def save_model(
    model: PreTrainedModel,
    folder: Path,
    *,
    tokenizer_from: Path,
    jinja: str | None,
    state: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write a model folder that can chat: weights in the model's dtype, tokenizer, template and end-of-turn tokens.

    `state` gives the weights where the model holds only shards of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig()
    model.save_pretrained(folder, state_dict=state)
    save_chat_files(folder, tokenizer_from=tokenizer_from, jinja=jinja)


def save_changed(base: Path, folder: Path, tensors: Mapping[str, torch.Tensor], *, jinja: str | None) -> None:
    """Write a copy of a model folder that can chat, with some weights replaced; the others stay bit-identical."""
    folder.mkdir(parents=True, exist_ok=True)
    copy_weights(base, folder, tensors)
    shutil.copyfile(base / "config.json", folder / "config.json")
    save_chat_files(folder, tokenizer_from=base, jinja=jinja)


def save_chat_files(folder: Path, *, tokenizer_from: Path, jinja: str | None) -> None:
    """Write tokenizer, chat template, and a generation_config.json with the tokens that end an answer."""
    copy_tokenizer(tokenizer_from, folder, jinja=jinja)
    tokenizer = FolderTokenizer(folder)
    ends = [tokenizer.eos_token]
    if (folder / TEMPLATE_FILE).is_file():
        try:
            ends = list(dict.fromkeys([end_of_turn(load_template(OWN, folder, tokenizer)), *ends]))
        except InputError as error:
            # A base model may have a template that we cannot train with; that matters only to its users.
            if jinja is not None:
                raise
            logger.warning("the model's own chat template cannot be used: %s", error.what)
    settings = GenerationConfig(
        bos_token_id=tokenizer.controls.get(tokenizer.bos_token),
        eos_token_id=[tokenizer.controls[name] for name in ends if name in tokenizer.controls] or None,
    )
    settings.save_pretrained(folder)


def import_bitsandbytes(what: str, *, where: str) -> ModuleType:
    """The package for weights in 8 or 4 bits; an InputError where it is not installed."""
    try:
        import bitsandbytes  # pyright: ignore[reportMissingImports]  (the extra `gpu`)
    except ImportError as error:
        missing = f"{what} needs bitsandbytes, which is not installed"
        raise InputError(missing, where=where, fix="pip install 'baihua[gpu]'") from error
    return bitsandbytes


def refuse_hub_kernels() -> None:
    """Refuse `kernels`: with it, bitsandbytes 0.50 fetches compiled code from the hub when peft imports it."""
    if importlib.util.find_spec("bitsandbytes") and importlib.util.find_spec("kernels"):
        what = "the package `kernels` is installed, with which bitsandbytes loads and runs code from the hub"
        raise InputError(what, where="this Python environment", fix="pip uninstall kernels")
