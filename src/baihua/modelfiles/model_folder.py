"""What a Hugging Face model folder must have before anybody loads it."""

import json
from pathlib import Path

from baihua.core.errors import InputError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def check_model_folder(folder: Path) -> None:
    """Refuse an adapter, a folder without a config, and one without safetensors weights."""
    if (folder / "adapter_config.json").is_file():
        raise InputError(
            "this is an adapter, not a whole model",
            where=str(folder),
            fix="merge it into its base model first: baihua do merge --in model=BASE --in adapter=THIS --out DIR",
        )
    if not (folder / "config.json").is_file():
        raise InputError(
            "this is not a model folder: it has no config.json",
            where=str(folder),
            fix="give a folder in the Hugging Face layout",
        )
    if not any(folder.glob("*.safetensors")):
        raise InputError(
            "the model folder has no .safetensors file (pickled weights are never read)",
            where=str(folder),
            fix="convert the weights to safetensors",
        )


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers reads, sorted; a folder may hold others, the same weights in another layout."""
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    index = folder / INDEX
    if not index.is_file():
        raise InputError(f"the model folder has neither {SINGLE} nor {INDEX}", where=str(folder), fix="import it again")
    names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    return [folder / name for name in sorted(set(names))]
