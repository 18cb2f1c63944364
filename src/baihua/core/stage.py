"""Stages: run one, or reuse what it made before from the same inputs.

A stage is a file of `baihua.stages` with `VERSION`, `INPUTS`, `OUTPUT`, a `Config` and `run(config, inputs, out) ->
metrics`. It may also define `fingerprint(config)`, the content of the fields that are marked as content; `estimate`,
for `baihua check`; and `IS_SHARED`, which makes all processes of a run work on it together.

Work goes to `KIND-ID.partial`; the manifest is written last and the folder is renamed to `KIND-ID`. So a folder with a
manifest is complete, whenever a process was killed.
"""

import errno
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from filelock import AcquireReturnProxy, FileLock, Timeout

from baihua.core import artifact, kinds
from baihua.core.artifact import MANIFEST, Artifact, hash_json, read_artifact
from baihua.core.config import Base, identifying
from baihua.core.env import numeric_settings
from baihua.core.errors import InputError, RunError
from baihua.core.files import is_sequence, sync, write_json
from baihua.core.log import logger
from baihua.core.system import release_memory

STAGES = "baihua.stages"


@dataclass(frozen=True, slots=True)
class Input:
    """The artifact kinds allowed for one input, and whether it is required."""

    kinds: tuple[str, ...]
    is_required: bool = True


Inputs = Mapping[str, Path]
"""The path of each input of a stage, by its role."""
Metrics = dict[str, Any]
"""The figures of a stage, which go into its manifest, or an estimate of them."""


class Stage(Protocol):
    """A module of `baihua.stages`."""

    VERSION: int
    INPUTS: dict[str, Input]
    OUTPUT: tuple[str, ...]
    Config: type[Base]
    run: Callable[[Any, Inputs, Path], Metrics]


Announce = Callable[[str, Base, Inputs, Path], None]
"""Sends kind, config, inputs and output folder of a stage to the other processes of a run, which join the work."""


@dataclass(frozen=True, slots=True)
class Given:
    """One input of a stage: its path and the identity of its content."""

    path: Path
    id: str
    part: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """A finished stage: its artifact, and whether it was made before."""

    artifact: Artifact
    is_reused: bool


def find_stage(kind: str) -> Stage:
    """The module of a stage kind."""
    return cast(Stage, kinds.find(STAGES, kind))


def identity(kind: str, config: Base, inputs: Mapping[str, Given]) -> str:
    """SHA-256 over everything that can change what the stage makes, 64 hex digits."""
    stage = find_stage(kind)
    fingerprint = kinds.member(stage, "fingerprint")
    return hash_json(
        {
            "stage": kind,
            "version": stage.VERSION,
            "config": identifying(config),
            "content": fingerprint(config) if fingerprint else None,
            "code": sorted(filter(None, map(kinds.foreign_hash, {f"{STAGES}.{kind}", *_modules(config)}))),
            "inputs": {role: [given.id, given.part] for role, given in sorted(inputs.items())},
        }
    )


def run_stage(
    kind: str, config: Base, inputs: Mapping[str, Given], store: Path, *, announce: Announce | None = None
) -> Result:
    """Make the artifact in the store, or reuse it; a second process that needs the same one waits for it."""
    artifact_id = identity(kind, config, inputs)
    folder = store / f"{kind}-{artifact_id[:16]}"
    store.mkdir(parents=True, exist_ok=True)
    with _lock(store / f"{folder.name}.lock"):
        if (folder / MANIFEST).is_file():
            return Result(read_artifact(folder), is_reused=True)
        partial = store / f"{folder.name}.partial"
        made = _make(kind, config, inputs, partial, folder, artifact_id=artifact_id, announce=announce)
        return Result(made, is_reused=False)


def run_into(
    kind: str, config: Base, inputs: Mapping[str, Given], out: Path, *, announce: Announce | None = None
) -> Artifact:
    """Run one stage into a new or empty folder of the user's; work goes to a `.partial` folder next to it."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("the output folder is not empty", where=str(out), fix="name another --out")
    artifact_id = identity(kind, config, inputs)
    partial = out.with_name(f"{out.name}-{artifact_id[:16]}.partial")
    return _make(kind, config, inputs, partial, out, artifact_id=artifact_id, announce=announce)


def _make(
    kind: str,
    config: Base,
    inputs: Mapping[str, Given],
    partial: Path,
    folder: Path,
    *,
    artifact_id: str,
    announce: Announce | None,
) -> Artifact:
    """Run the stage in a partial folder that an interrupted run may have left, write the manifest, and publish."""
    stage, paths = find_stage(kind), {role: given.path for role, given in inputs.items()}
    partial.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        with _FullDisk(kind, partial):
            if announce and kinds.member(stage, "IS_SHARED"):
                announce(kind, config, paths, partial)
            metrics = stage.run(config, paths, partial)
            manifest = {
                "schema": artifact.SCHEMA,
                "id": artifact_id,
                "stage": kind,
                "version": stage.VERSION,
                "config": config.model_dump(mode="json"),
                "inputs": {role: {"id": one.id, "part": one.part, "name": one.name} for role, one in inputs.items()},
                "files": artifact.list_files(partial),
                "sources": _sources(inputs, metrics),
                "metrics": metrics,
                "seconds": round(time.monotonic() - started, 3),
                "versions": artifact.versions(),
                "device": artifact.machine(),
                "environment": numeric_settings(),
            }
            write_json(partial / MANIFEST, manifest)
    finally:
        release_memory()
        if not any(partial.iterdir()):
            partial.rmdir()
    if folder.exists():
        folder.rmdir()
    partial.rename(folder)
    sync(folder.parent)
    return read_artifact(folder)


class _FullDisk:
    """Turns the error for a full disk into a RunError; each library raises its own class."""

    def __init__(self, kind: str, out: Path) -> None:
        self._kind = kind
        self._out = out

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if error is None or not (is_full or os.strerror(errno.ENOSPC) in str(error)):
            return
        raise RunError(
            f"the disk is full: stage {self._kind!r} could not write its result",
            where=str(self._out),
            fix="free some space and run the same command again; finished stages are reused",
        ) from error


def _sources(inputs: Mapping[str, Given], metrics: Mapping[str, Any]) -> dict[str, str | None]:
    """Names and licences of all data behind an artifact: those of its inputs, and what it read itself."""
    found: dict[str, str | None] = {}
    for given in inputs.values():
        known = artifact.find_artifact(given.path)
        found |= known.sources if known else {}
    counts = metrics.get("num_rows_by_source")
    found = {name: licence for name, licence in found.items() if counts is None or name in counts}
    return found | {name: source["licence"] for name, source in metrics.get("sources", {}).items()}


def _modules(config: Base) -> set[str]:
    """Names of the modules that define a config and the configs inside it."""
    values = list(config.__dict__.values())
    items = [item for value in values if is_sequence(value) for item in value]
    below = [value for value in [*values, *items] if isinstance(value, Base)]
    return {type(config).__module__}.union(*map(_modules, below))


def _lock(file: Path) -> "AcquireReturnProxy[Any]":
    """Take a lock that ends with its process; logs once when it has to wait."""
    lock = FileLock(file)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        logger.info("another run is making %s; waiting for it", file.stem)
        return lock.acquire()
