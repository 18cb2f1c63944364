"""The weight files of a model folder, read and written tensor by tensor, without a model around them."""

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from baihua.core.errors import InputError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers reads, sorted; a folder may hold others, the same weights in another layout."""
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    index = folder / INDEX
    if not index.is_file():
        raise InputError(f"the model folder has neither {SINGLE} nor {INDEX}", where=str(folder), fix="import it again")
    names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    return [folder / name for name in sorted(set(names))]


def read_tensors(folder: Path, names: Collection[str]) -> dict[str, torch.Tensor]:
    """Some weights as they are on disk; an InputError for a name that no file has."""
    found: dict[str, torch.Tensor] = {}
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            found |= {name: file.get_tensor(name) for name in sorted(set(names) & set(file.keys()))}
    missing = sorted(set(names) - found.keys())
    if missing:
        raise InputError(
            f"the weight files lack {len(missing)} of the model's tensors, the first is {missing[0]!r}; they may have "
            "been written under other names",
            where=str(folder),
            fix="load the model with transformers and save it again, which gives them today's names",
        )
    return found


def copy_weights(source: Path, folder: Path, replaced: Mapping[str, torch.Tensor]) -> None:
    """Copy weight files with some tensors replaced, each in its old dtype; the others keep their bits."""
    for path in weight_files(source):
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
            metadata = file.metadata()
        for name in tensors.keys() & replaced.keys():
            tensors[name] = replaced[name].to(tensors[name].dtype).contiguous()
        save_file(tensors, folder / path.name, metadata=metadata)
    if not (source / SINGLE).is_file():
        shutil.copyfile(source / INDEX, folder / INDEX)
