"""The weight files of a model folder, read and written tensor by tensor, without a model around them."""

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from baihua.core.errors import InputError, RunError
from baihua.core.files import write_json
from baihua.modelfiles.folder import INDEX, SINGLE, weight_files

MAX_SHARD_BYTES = 2 * 10**9
# What safetensors calls the numbers that a model may have; anything else is a quantized checkpoint.
NUMBERS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor is, and what its file says about it."""

    file: Path
    dtype: str
    """In the words of safetensors, such as BF16."""
    shape: tuple[int, ...]


class WeightFiles:
    """The tensors of a model folder by name.

    Each read opens its file and closes it again: pages of a file that stays mapped count as memory in use.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places: dict[str, Place] = {}
        for path in weight_files(folder):
            self.places |= _places_in(path)

    def dtype_of(self, name: str) -> torch.dtype:
        """What a tensor is stored in; an InputError for one that is no plain matrix of numbers."""
        dtype = NUMBERS.get(self.places[name].dtype)
        if dtype is None:
            raise InputError(
                f"the tensor {name!r} is stored as {self.places[name].dtype}, which is not a plain floating-point type",
                where=str(self.places[name].file),
                fix="give a model that is not quantized",
            )
        return dtype

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """A tensor in memory of its own, in the dtype of its file or another."""
        wanted = dtype or self.dtype_of(name)
        with safe_open(self.places[name].file, framework="pt") as file:
            return file.get_tensor(name).to(wanted, copy=True)


class ShardWriter:
    """Writes tensors to shards of bounded size, reads each back and compares it; an index comes last.

    Needs memory for one shard. A tensor that is larger than a shard gets a file of its own.
    """

    def __init__(self, folder: Path, *, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_shard_bytes
        self._shard: dict[str, torch.Tensor] = {}
        self._names: list[list[str]] = []
        self._num_bytes = 0
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Take one tensor; it must not change any more."""
        if self._shard and sum(held.nbytes for held in self._shard.values()) + tensor.nbytes > self._max_bytes:
            self._write()
        self._shard[name] = tensor.contiguous()
        self._num_bytes += tensor.nbytes

    def close(self) -> None:
        """Write what is left, and give the files the names by which others find them."""
        self._write()
        count = len(self._names)
        if count == 1:
            self._file(1).rename(self._folder / SINGLE)
            return
        files = {number: f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)}
        for number, name in files.items():
            self._file(number).rename(self._folder / name)
        places = {name: files[number] for number, names in enumerate(self._names, 1) for name in names}
        write_json(self._folder / INDEX, {"metadata": {"total_size": self._num_bytes}, "weight_map": places})

    def _write(self) -> None:
        self._names.append(list(self._shard))
        file = self._file(len(self._names))
        save_file(self._shard, file, metadata={"format": "pt"})
        check_shard(file, self._shard)
        self._shard = {}

    def _file(self, number: int) -> Path:
        return self._folder / f"shard-{number:05d}.safetensors"


def check_shard(file: Path, wanted: Mapping[str, torch.Tensor]) -> None:
    """Compare every tensor bit by bit: no text reaches every row of a matrix, so no text would find each damage."""
    wrong = [name for name, tensor in wanted.items() if not _is_on_disk(file, name, tensor)]
    if wrong:
        raise RunError(
            f"{len(wrong)} tensors differ from what was saved after reading them back, the first is {wrong[0]!r}",
            where=str(file),
            fix="check the disk and run the stage again",
        )


def read_tensors(folder: Path, names: Collection[str]) -> dict[str, torch.Tensor]:
    """Some weights as they are on disk; an InputError for a name that no file has."""
    files = WeightFiles(folder)
    check_names(files, names)
    return {name: files.read(name) for name in sorted(names)}


def check_names(files: WeightFiles, names: Collection[str]) -> None:
    """Refuse a folder that lacks a tensor."""
    missing = sorted(set(names) - files.places.keys())
    if missing:
        raise InputError(
            f"the weight files lack {len(missing)} of the model's tensors, the first is {missing[0]!r}; they may have "
            "been written under other names",
            where=str(files.folder),
            fix="load the model with transformers and save it again, which gives them today's names",
        )


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


def _places_in(path: Path) -> dict[str, Place]:
    with safe_open(path, framework="pt") as file:
        parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        return {name: Place(path, part.get_dtype(), tuple(part.get_shape())) for name, part in parts.items()}


def _is_on_disk(file: Path, name: str, wanted: torch.Tensor) -> bool:
    with safe_open(file, framework="pt") as opened:
        found = opened.get_tensor(name)
        if found.dtype != wanted.dtype or found.shape != wanted.shape:
            return False
        return torch.equal(found.flatten().view(torch.uint8), wanted.flatten().view(torch.uint8))
