"""What a model folder is made of, and its hash."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from baihua.core.artifact import MANIFEST, hash_file
from baihua.core.errors import InputError

# Pickle (.bin, .pt) and Python files can run code, so they are no part of a model.
PATTERNS = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model")


def hash_folder(folder: Path) -> str:
    """SHA-256 over names and contents of a folder's model files; a folder without weights is refused."""
    files = sorted(file for file in folder.iterdir() if is_model_file(file.name))
    check_weights([file.name for file in files], [file.name for file in folder.iterdir()], str(folder))
    lines = [f"{hash_file(file)}  {file.name}\n" for file in files]
    return hashlib.sha256("".join(lines).encode("utf-8")).hexdigest()


def copy_folder(folder: Path, out: Path) -> None:
    """Copy a folder's model files; `tokenizer.json` is made from `tokenizer.model` where only that is there."""
    for file in sorted(file for file in folder.iterdir() if is_model_file(file.name)):
        shutil.copyfile(file, out / file.name)
    if not (out / "tokenizer.json").is_file() and (out / "tokenizer.model").is_file():
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(str(out), trust_remote_code=False).save_pretrained(str(out))


def is_model_file(name: str) -> bool:
    """Whether a file of this name belongs to a model and cannot run code."""
    return name != MANIFEST and any(Path(name).match(pattern) for pattern in PATTERNS)


def check_weights(found: Sequence[str], all_names: Sequence[str], where: str) -> None:
    """Refuse a model that has no config, or weights in no format but pickle."""
    pickles = sorted(name for name in all_names if name.endswith((".bin", ".pt", ".pth", ".ckpt")))
    if not any(name.endswith(".safetensors") for name in found):
        raise InputError(
            "the model has no .safetensors weights"
            + (f", only {pickles[0]}: a pickle file can run any code and is never loaded" if pickles else ""),
            where=where,
            fix="use a model that is published as .safetensors, or convert it where you trust its author",
        )
    if "config.json" not in found:
        raise InputError("the model has no config.json", where=where, fix="name the folder of a whole model")
