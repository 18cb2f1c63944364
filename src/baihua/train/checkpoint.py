"""Where a run was: safetensors and JSON, nothing pickled; a half or damaged one is never used.

`checkpoint-N.partial` is written and synced, then renamed. No random state is stored: the loop seeds
every step from (seed, step, process), so a step depends on nothing that came before but the weights.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from baihua.core.artifact import hash_file
from baihua.core.jsonl import write_json
from baihua.core.log import logger

NUM_KEPT = 2
WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, after `step` steps. Times are figures only: no weight depends on them."""

    step: int = 0
    num_tokens: int = 0
    num_target_tokens: int = 0
    num_chars: int = 0
    seconds: float = 0.0


class Checkpoints:
    """The checkpoints of one run in a folder; `run_id` keeps those of another run from being continued."""

    def __init__(self, folder: Path, *, run_id: str) -> None:
        self.folder = folder
        self.run_id = run_id

    def save(
        self, progress: Progress, weights: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
    ) -> None:
        """Write one checkpoint durably, then remove those before the last two."""
        target = self.folder / f"checkpoint-{progress.step}"
        partial = target.with_name(target.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        tensors = {name: parameter.detach().contiguous() for name, parameter in weights.items()}
        save_file(tensors, partial / WEIGHTS)
        save_file(_flatten(optimizer.state_dict()["state"]), partial / OPTIMIZER)
        state = {
            "run_id": self.run_id,
            "progress": asdict(progress),
            "machine": _machine(tensors),
            "files": {name: hash_file(partial / name) for name in (WEIGHTS, OPTIMIZER)},
        }
        write_json(partial / STATE, state)
        for path in (partial / WEIGHTS, partial / OPTIMIZER, partial):
            _sync(path)
        # Only one that was damaged, and so passed over, can be in the way.
        shutil.rmtree(target, ignore_errors=True)
        partial.replace(target)
        _sync(self.folder)
        for old in self._newest_first()[NUM_KEPT:]:
            shutil.rmtree(old)

    def restore(self, weights: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> Progress:
        """Fill weights and optimizer from the newest sound checkpoint; a fresh Progress where there is none."""
        for folder in self._newest_first():
            state = _read_state(folder, run_id=self.run_id)
            if state is None:
                continue
            _fill(weights, load_file(folder / WEIGHTS))
            groups = optimizer.state_dict()["param_groups"]
            moments = _unflatten(load_file(folder / OPTIMIZER))
            optimizer.load_state_dict({"state": moments, "param_groups": groups})
            _warn_of_other_machine(state["machine"], _machine(weights))
            return Progress(**state["progress"])
        return Progress()

    def _newest_first(self) -> list[Path]:
        found = [path for path in self.folder.glob("checkpoint-*") if path.suffix != ".partial"]
        return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)


def _read_state(folder: Path, *, run_id: str) -> dict[str, Any] | None:
    """The state of a sound checkpoint of this run, else None with a warning."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        is_sound = all(hash_file(folder / name) == wanted for name, wanted in state["files"].items())
    except (OSError, json.JSONDecodeError, KeyError):
        is_sound, state = False, {}
    if not is_sound:
        logger.warning("%s is damaged; using the one before it", folder.name)
        return None
    if state["run_id"] != run_id:
        logger.warning("%s belongs to a run with other settings or data; ignoring it", folder.name)
        return None
    return state


def _fill(weights: Mapping[str, torch.nn.Parameter], tensors: Mapping[str, torch.Tensor]) -> None:
    assert weights.keys() == tensors.keys(), "a checkpoint of the same run has the same trainable weights"
    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(tensors[name])


def _flatten(state: Mapping[int, Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {f"{index}.{name}": t.contiguous() for index, each in state.items() for name, t in each.items()}


def _unflatten(tensors: Mapping[str, torch.Tensor]) -> dict[int, dict[str, torch.Tensor]]:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    return state


def _machine(weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What else the last bits of a result depend on."""
    device = next(iter(weights.values())).device.type
    return {"device": device, "num_threads": torch.get_num_threads()}


def _warn_of_other_machine(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = [f"{name} was {before[name]}, is {now[name]}" for name in now if before.get(name) != now[name]]
    if changed:
        logger.warning("the result may differ in its last bits from a run without a break: %s", "; ".join(changed))


def _sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable; Windows cannot open folders."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() or os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
