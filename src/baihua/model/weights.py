"""The weight files of a model folder, read and written tensor by tensor, without loading the model."""

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from baihua.core.errors import InputError, RunError
from baihua.core.files import write_json
from baihua.modelfiles.folder import INDEX, SINGLE, stored_tensors, weight_files

MAX_SHARD_BYTES = 2 * 10**9
# safetensors' names of the types that a model may have; anything else is a quantized checkpoint.
NUMBERS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class WeightFiles:
    """The tensors of a model folder by name.

    Each read opens and closes its file: pages of a file that stays mapped count as memory in use.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places = stored_tensors(folder)

    def dtype_of(self, name: str) -> torch.dtype:
        """The type in which a tensor is stored; an InputError for a quantized one."""
        place = self.places[name]
        if place.dtype not in NUMBERS:
            what = f"the tensor {name!r} is stored as {place.dtype}, which is not a plain floating-point type"
            raise InputError(what, where=str(place.file), fix="give a model that is not quantized")
        return NUMBERS[place.dtype]

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """A copy of a tensor in memory, in the dtype of its file or another."""
        with safe_open(self.places[name].file, framework="pt") as file:
            return file.get_tensor(name).to(dtype or self.dtype_of(name), copy=True)


class ShardWriter:
    """Writes tensors to shards of bounded size, reads each back and compares it; an index comes last.

    Needs memory for one shard. A tensor larger than a shard gets its own file.
    """

    def __init__(self, folder: Path, *, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_shard_bytes
        self._shard: dict[str, torch.Tensor] = {}
        self._names: list[list[str]] = []
        self._num_bytes = 0
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Add one tensor, which must not change afterwards."""
        if self._shard and sum(held.nbytes for held in self._shard.values()) + tensor.nbytes > self._max_bytes:
            self._write()
        self._shard[name] = tensor.contiguous()
        self._num_bytes += tensor.nbytes

    def close(self) -> None:
        """Write the last shard, and give the files their final names."""
        self._write()
        if (count := len(self._names)) == 1:
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
    """Compare every tensor bit by bit: no text reaches every row of a matrix, so texts would not find every damage."""
    wrong: list[str] = []
    for name, tensor in wanted.items():
        with safe_open(file, framework="pt") as opened:
            found = opened.get_tensor(name)
        is_alike = (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        if not is_alike or not torch.equal(found.flatten().view(torch.uint8), tensor.flatten().view(torch.uint8)):
            wrong.append(name)
    if wrong:
        what = f"{len(wrong)} tensors read back differently from what was saved, the first is {wrong[0]!r}"
        raise RunError(what, where=str(file), fix="check the disk and run the stage again")


def read_tensors(folder: Path, names: Collection[str]) -> dict[str, torch.Tensor]:
    """Some weights as stored; an InputError for a name that no file has."""
    files = WeightFiles(folder)
    check_names(files, names)
    return {name: files.read(name) for name in sorted(names)}


def check_names(files: WeightFiles, names: Collection[str]) -> None:
    """Refuse a folder that lacks a tensor."""
    if missing := sorted(set(names) - files.places.keys()):
        what = f"the weight files lack {len(missing)} of the model's tensors, the first is {missing[0]!r}"
        fix = "load the model with transformers and save it again, which gives them current names"
        raise InputError(f"{what}; they may have been written under other names", where=str(files.folder), fix=fix)


def copy_weights(source: Path, folder: Path, replaced: Mapping[str, torch.Tensor]) -> None:
    """Copy weight files with some tensors replaced, each in its old dtype; the others stay bit-identical."""
    for path in weight_files(source):
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
            metadata = file.metadata()
        for name in tensors.keys() & replaced.keys():
            tensors[name] = replaced[name].to(tensors[name].dtype).contiguous()
        save_file(tensors, folder / path.name, metadata=metadata)
    if not (source / SINGLE).is_file():
        shutil.copyfile(source / INDEX, folder / INDEX)
