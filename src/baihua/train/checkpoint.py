"""Training checkpoints in safetensors and JSON; incomplete or corrupt ones are ignored.

`checkpoint-N.partial` is written, synced and read back, then renamed; only then older ones are removed. Shards of
several processes are files side by side. No random state is stored: the loop seeds every step from (seed, step,
process), so a step depends on nothing that came before but the weights.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from baihua.core.artifact import hash_file
from baihua.core.errors import RunError
from baihua.core.files import sync, write_json
from baihua.core.log import logger
from baihua.train.parallel import local

NUM_KEPT = 2
STATE, BEST = "state.json", "best"
# Between the parts of a flat name; parameters of an optimizer are numbered, its values have plain names.
SEPARATOR = "/"


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a training after `step` steps, apart from its tensors. Times are figures only."""

    step: int = 0
    num_tokens: int = 0
    num_target_tokens: int = 0
    num_chars: int = 0
    seconds: float = 0.0
    recent: tuple[float, ...] = ()
    """Losses of the last steps, oldest first, for the guard."""
    num_spikes: int = 0
    """Consecutive steps skipped up to now."""
    best_step: int | None = None
    best_bits_per_char: float | None = None


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one run in a folder; process 0 writes what all processes have in common."""

    folder: Path
    run_id: str
    """Checkpoints with another one are ignored."""
    process: int = 0
    num_processes: int = 1
    is_sharded: bool = False
    """Whether each process holds shards, which it writes itself."""
    wait: Callable[[], None] = lambda: None
    """Returns when all processes have called it."""

    def save(self, progress: Progress, weights: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
        """Write one checkpoint durably and read it back, then remove those before the last two."""
        tensors = {"weights": _local(weights), "optimizer": _flatten(optimizer.state_dict()["state"])}
        state = {"progress": asdict(progress), "machine": _machine(weights)}
        self._write(self.folder / f"checkpoint-{progress.step}", tensors, state)
        if self.process == 0:
            for old in self._newest_first()[NUM_KEPT:]:
                shutil.rmtree(old)

    def restore(self, weights: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> Progress:
        """Fill weights and optimizer from the newest sound checkpoint; a fresh Progress if there is none."""
        for folder in self._newest_first():
            if (state := self._read_state(folder)) is None:
                continue
            self._fill(weights, folder)
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            moments = _unflatten(load_file(self._file(folder, "optimizer")), parameters)
            optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
            before, now = state["machine"], _machine(weights)
            if changed := [f"{name} was {before[name]}, is {now[name]}" for name in now if before[name] != now[name]]:
                message = "the last bits of the result may differ from those of an uninterrupted run: %s"
                logger.warning(message, "; ".join(changed))
            return Progress(**state["progress"] | {"recent": tuple(state["progress"]["recent"])})
        return Progress()

    def save_best(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Keep the weights of the best step so far."""
        target = self.folder / f"{BEST}-{step}"
        self._write(target, {"weights": _local(weights)}, {})
        if self.process == 0:
            for old in {*self.folder.glob(f"{BEST}-*")} - {target}:
                shutil.rmtree(old)

    def restore_best(self, step: int, weights: Mapping[str, Tensor]) -> bool:
        """Fill in the weights of the best step; False, with a warning, if they are corrupt."""
        folder = self.folder / f"{BEST}-{step}"
        if is_sound := self._read_state(folder) is not None:
            self._fill(weights, folder)
        return is_sound

    def _file(self, folder: Path, name: str) -> Path:
        part = f"-{self.process:05d}-of-{self.num_processes:05d}" if self.is_sharded else ""
        return folder / f"{name}{part}.safetensors"

    def _fill(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        tensors = load_file(self._file(folder, "weights"))
        assert weights.keys() == tensors.keys(), "a checkpoint of the same run has the same trainable weights"
        with torch.no_grad():
            for name, parameter in weights.items():
                local(parameter).copy_(tensors[name])

    def _write(self, target: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
        """One folder, complete or absent: files of all processes, verified, then the state, then the name."""
        partial = target.with_name(target.name + ".partial")
        if self.process == 0:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self.wait()
        if self.is_sharded or self.process == 0:
            check_space(self.folder, sum(tensor.nbytes for each in tensors.values() for tensor in each.values()))
            for name, each in tensors.items():
                write_verified(self._file(partial, name), each)
        self.wait()
        if self.process == 0:
            files = {file.name: hash_file(file) for file in sorted(partial.iterdir())}
            write_json(partial / STATE, {"run_id": self.run_id, "files": files, **state})
            sync(partial)
            # Only a corrupt one, which was ignored, can have this name.
            shutil.rmtree(target, ignore_errors=True)
            partial.replace(target)
            sync(self.folder)
        self.wait()

    def _newest_first(self) -> list[Path]:
        found = [path for path in self.folder.glob("checkpoint-*") if path.suffix != ".partial"]
        return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)

    def _read_state(self, folder: Path) -> dict[str, Any] | None:
        """The state of a sound checkpoint of this run, else None with a warning."""
        try:
            state = json.loads((folder / STATE).read_text(encoding="utf-8"))
            is_sound = all(hash_file(folder / name) == wanted for name, wanted in state["files"].items())
        except (OSError, json.JSONDecodeError, KeyError):
            is_sound, state = False, {}
        if not is_sound:
            logger.warning("%s is corrupt; using the one before it", folder.name)
        elif state["run_id"] != self.run_id:
            logger.warning("%s belongs to a run with other settings or data; ignoring it", folder.name)
        elif self._file(folder, "weights").name not in state["files"]:
            logger.warning("%s has shards of another number of processes; ignoring it", folder.name)
        else:
            return state
        return None


def check_space(folder: Path, num_bytes: int) -> None:
    """A RunError if the disk has no room for this many bytes: better now than in the middle of a file."""
    free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
    if free < num_bytes:
        fix = "free some space and run the same command again: it continues from the last checkpoint"
        raise RunError(
            f"the disk has {free:,} bytes left, a checkpoint needs {num_bytes:,}", where=str(folder), fix=fix
        )


def write_verified(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write and sync tensors, and compare what is read back bit by bit."""
    save_file(dict(tensors), file)
    sync(file)

    def bits(tensor: Tensor) -> Tensor:
        # Not values: NaN differs from itself.
        return tensor.cpu().reshape(-1).view(torch.uint8)

    with safe_open(file, framework="pt") as stored:
        wrong = [name for name, tensor in tensors.items() if not bits(tensor).equal(bits(stored.get_tensor(name)))]
    if wrong:
        what = f"{len(wrong)} tensors of a checkpoint differ from what was saved after reading them back"
        fix = "check the disk; the checkpoint before it is kept"
        raise RunError(f"{what}, the first is {wrong[0]!r}", where=str(file), fix=fix)


def _local(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: local(tensor.detach()).contiguous() for name, tensor in tensors.items()}


def _flatten(state: Mapping[Any, Any], prefix: str = "") -> dict[str, Tensor]:
    """Tensors by a flat name; bitsandbytes nests its moments one level deeper and counts steps in plain numbers."""
    flat: dict[str, Tensor] = {}
    for key, value in state.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{name}{SEPARATOR}")
        else:
            flat[name] = local(value).detach().contiguous() if isinstance(value, Tensor) else torch.tensor(value)
    return flat


def _unflatten(tensors: Mapping[str, Tensor], parameters: Sequence[Tensor]) -> dict[int, dict[str, Any]]:
    """The optimizer's state: moments are shards where the weights are, counts plain numbers."""
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        index, *keys, last = name.split(SEPARATOR)
        place: dict[str, Any] = state.setdefault(int(index), {})
        for key in keys:
            place = place.setdefault(key, {})
        weight = parameters[int(index)]
        if tensor.ndim == 0:
            place[last] = int(tensor) if tensor.dtype == torch.int64 else tensor
        elif isinstance(weight, DTensor):
            whole = {"shape": weight.shape, "stride": weight.stride()}
            place[last] = DTensor.from_local(tensor, weight.device_mesh, weight.placements, run_check=False, **whole)
        else:
            place[last] = tensor
    return state


def _machine(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """What else the last bits of a result depend on."""
    return {"device": next(iter(weights.values())).device.type, "num_threads": torch.get_num_threads()}
