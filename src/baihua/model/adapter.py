"""What an adapter says of itself, and whether it belongs to a base model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft

from baihua.chat.tokenizer import FolderTokenizer
from baihua.core.errors import InputError
from baihua.core.log import logger
from baihua.modelfiles.folder import fingerprint, source_of

WEIGHTS, PICKLED = "adapter_model.safetensors", "adapter_model.bin"
KINDS = (peft.PeftType.LORA, peft.PeftType.TRAINABLE_TOKENS)
# Starts that leave the base as it is. The others (PiSSA, OLoRA, LoftQ, ...) take something out of it, which an adapter
# for anybody's use has put back: https://huggingface.co/docs/peft/v0.21.0/developer_guides/lora
STARTS = (True, False, "gaussian", "orthogonal")


def check_base(base: Path, adapter: Path) -> None:
    """Refuse an adapter that was trained on another model: vocabulary first, since that is the usual slip."""
    _check_vocabulary(base, adapter)
    error = _misfit(base, fingerprint(base), adapter)
    if error:
        raise error


def check_order(base: Path, adapters: Mapping[str, Path]) -> None:
    """Refuse the first adapter if it was trained on another model, and say which of the others belongs before it.

    No merge changes a vocabulary or the kind of an adapter, so that these are checked of all.
    """
    for adapter in adapters.values():
        read_config(adapter)
        _check_vocabulary(base, adapter)
    found = fingerprint(base)
    role, *others = adapters
    error = _misfit(base, found, adapters[role])
    if not error:
        return
    for other in others:
        if _wanted(adapters[other]) == found:
            raise InputError(
                f"the adapters are in the wrong order: {error.what}; `{other}` was trained on it",
                where=error.where,
                fix=f"give what is now `{other}` as `{role}`: each adapter is merged into the result of those before",
            )
    raise error


def read_config(adapter: Path) -> peft.PeftConfig:
    """What an adapter says of itself; refused if it cannot become part of a model, or is pickled."""
    _read_settings(adapter)
    if not (adapter / WEIGHTS).is_file():
        is_pickled = (adapter / PICKLED).is_file()
        raise InputError(
            f"the adapter has no {WEIGHTS}" + (f"; {PICKLED} is pickled, which is never read" if is_pickled else ""),
            where=str(adapter),
            fix="save it as safetensors where you trust it" if is_pickled else "copy it again, or train it again",
        )
    try:
        config = peft.PeftConfig.from_pretrained(str(adapter))
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(adapter, error) from error
    start = config.init_lora_weights if isinstance(config, peft.LoraConfig) else True
    if config.peft_type not in KINDS or start not in STARTS:
        raise InputError(
            f"an adapter of kind {peft.PeftType(config.peft_type).value}, started with {start!r}, cannot be merged",
            where=str(adapter / "adapter_config.json"),
            fix="give a LoRA, DoRA or rsLoRA adapter, or trained rows, that leaves the base's own weights as they are",
        )
    return config


def _check_vocabulary(base: Path, adapter: Path) -> None:
    _read_settings(adapter)
    num_base, num_adapter = _num_tokens(base), _num_tokens(adapter)
    if num_base and num_adapter and num_base != num_adapter:
        raise InputError(
            f"the base has {num_base:,} tokens, the adapter was trained with {num_adapter:,}",
            where=str(adapter),
            fix="give the model that the adapter was trained on; after `vocabulary` that is the extended one",
        )


def _misfit(base: Path, found: str, adapter: Path) -> InputError | None:
    """Why an adapter is not of the base with this fingerprint."""
    wanted = _wanted(adapter)
    if len(wanted) != len(found):
        logger.warning("the adapter does not say by fingerprint which base it belongs to; trusting that it is this one")
    elif wanted != found:
        name = _read_settings(adapter).get("base_model_name_or_path")
        return InputError(
            f"the adapter was trained on {name!r} with fingerprint "
            f"{wanted[:12]}..., the base given is {source_of(base)!r} with {found[:12]}...",
            where=str(adapter),
            fix="give the model that the adapter was trained on",
        )
    return None


def _read_settings(adapter: Path) -> dict[str, Any]:
    file = adapter / "adapter_config.json"
    if not file.is_file():
        raise InputError(
            "this is not an adapter: it has no adapter_config.json",
            where=str(adapter),
            fix="give the output of a `tune` stage whose method makes an adapter",
        )
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise _unreadable(adapter, error) from error


def _unreadable(adapter: Path, error: Exception) -> InputError:
    return InputError(
        f"cannot read what this adapter is: {type(error).__name__} {error}",
        where=str(adapter / "adapter_config.json"),
        fix="copy it again, or use the version of peft that wrote it to save it again",
    )


def _wanted(adapter: Path) -> str:
    """Fingerprint of the base that an adapter was trained on; another tool may have put a revision there, or none."""
    return _read_settings(adapter).get("revision") or ""


def _num_tokens(folder: Path) -> int | None:
    """Size of the vocabulary; an adapter of another tool may come without one."""
    return FolderTokenizer(folder).num_tokens if (folder / "tokenizer.json").is_file() else None
