"""The description of an adapter, and the check that it belongs to a base model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft

from baihua.chat.tokenizer import FolderTokenizer
from baihua.core.errors import InputError
from baihua.core.log import logger
from baihua.modelfiles.folder import fingerprint, read_json, source_of

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
KINDS = (peft.PeftType.LORA, peft.PeftType.TRAINABLE_TOKENS)
# Starts that leave the base as it is. The others (PiSSA, OLoRA, LoftQ, ...) subtract something from it, which an
# adapter for general use has added back: https://huggingface.co/docs/peft/v0.21.0/developer_guides/lora
STARTS = (True, False, "gaussian", "orthogonal")


def check_order(base: Path, adapters: Mapping[str, Path]) -> None:
    """Refuse the first adapter if it was trained on another model, and name the one that belongs before it.

    No merge changes a vocabulary or the kind of an adapter, so these are checked for all adapters; the vocabulary
    first, since that is the usual mistake.
    """
    for adapter in adapters.values():
        read_config(adapter)
        num_base, num_adapter = _num_tokens(base), _num_tokens(adapter)
        if num_base and num_adapter and num_base != num_adapter:
            what = f"the base has {num_base:,} tokens, the adapter was trained with {num_adapter:,}"
            fix = "give the model that the adapter was trained on; after `vocabulary` that is the extended one"
            raise InputError(what, where=str(adapter), fix=fix)
    found = fingerprint(base)
    (role, first), *others = adapters.items()
    wanted, name = _base_of(first)
    if len(wanted) != len(found):
        logger.warning("the adapter does not name its base by fingerprint; assuming that it is this one")
        return
    if wanted == found:
        return
    given = f"the base given is {source_of(base)!r} with {found[:12]}..."
    what = f"the adapter was trained on {name!r} with fingerprint {wanted[:12]}..., {given}"
    fix = "give the model that the adapter was trained on"
    for other, folder in others:
        if _base_of(folder)[0] == found:
            what = f"the adapters are in the wrong order: {what}; `{other}` was trained on it"
            fix = f"give what is now `{other}` as `{role}`: each adapter is merged into the result of those before"
            break
    raise InputError(what, where=str(first), fix=fix)


def read_config(adapter: Path) -> peft.PeftConfig:
    """The config of an adapter; refused if it cannot become part of a model, or is pickled."""
    file = adapter / CONFIG
    if not file.is_file():
        fix = "give the output of a `tune` stage whose method makes an adapter"
        raise InputError(f"this is not an adapter: it has no {CONFIG}", where=str(adapter), fix=fix)
    if (adapter / PICKLED).is_file() and not (adapter / WEIGHTS).is_file():
        what = f"the adapter has no {WEIGHTS}; {PICKLED} is pickled, which is never read"
        raise InputError(what, where=str(adapter), fix="convert it to safetensors on a machine where you trust it")
    if not (adapter / WEIGHTS).is_file():
        raise InputError(f"the adapter has no {WEIGHTS}", where=str(adapter), fix="copy it or train it again")
    read_json(file)
    try:
        config = peft.PeftConfig.from_pretrained(str(adapter))
    except (KeyError, TypeError, ValueError) as error:
        fix = "copy it again, or save it again with the version of peft that wrote it"
        what = f"this version of peft cannot read the adapter's config: {type(error).__name__} {error}"
        raise InputError(what, where=str(file), fix=fix) from error
    start = config.init_lora_weights if isinstance(config, peft.LoraConfig) else True
    if config.peft_type not in KINDS or start not in STARTS:
        what = f"an adapter of kind {peft.PeftType(config.peft_type).value}, started with {start!r}, cannot be merged"
        fix = "give a LoRA, DoRA or rsLoRA adapter, or trained rows, that leaves the base's own weights as they are"
        raise InputError(what, where=str(file), fix=fix)
    return config


def _base_of(adapter: Path) -> tuple[str, Any]:
    """Fingerprint and name of an adapter's base; another tool may have written a revision there, or nothing."""
    settings = read_json(adapter / CONFIG)
    return settings.get("revision") or "", settings.get("base_model_name_or_path")


def _num_tokens(folder: Path) -> int | None:
    """Size of the vocabulary; an adapter of another tool may come without one."""
    return FolderTokenizer(folder).num_tokens if (folder / "tokenizer.json").is_file() else None
