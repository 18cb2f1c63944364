"""Run a stage, or reuse what the same stage with the same inputs made before.

A stage is a file of `baihua.stages` with `VERSION`, `INPUTS`, `OUTPUT`, a `Config` and
`run(config, inputs, out) -> metrics`; where a config field is marked as content, `fingerprint(config)`
gives what the field's files hold; one with `IS_SHARED` runs on all processes of a run at once. Work goes
to `KIND-ID.partial`; the manifest is written last and the folder is renamed to `KIND-ID`. So a folder with
a manifest is complete, whatever was killed and when.
"""

import errno
import os
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from filelock import FileLock, Timeout

from baihua.core import artifact, kinds
from baihua.core.artifact import MANIFEST, Artifact, hash_json, read_artifact
from baihua.core.config import Base, identifying
from baihua.core.env import Environment, numeric_settings
from baihua.core.errors import InputError, RunError
from baihua.core.files import sync, write_json
from baihua.core.log import logger
from baihua.core.system import release_memory
from baihua.core.tree import is_sequence

STAGES = "baihua.stages"
FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Input:
    """What a stage accepts in a role: kinds of artifact, and whether it can do without."""

    kinds: tuple[str, ...]
    is_needed: bool = True


class Stage(Protocol):
    """A module of `baihua.stages`."""

    VERSION: int
    INPUTS: dict[str, Input]
    OUTPUT: tuple[str, ...]
    Config: type[Base]
    run: Callable[[Any, Mapping[str, Path], Path], dict[str, Any]]


Announce = Callable[[str, Base, Mapping[str, Path], Path], None]
"""Tells the other processes of a run which stage to take part in: its kind, config, inputs and output folder."""


@dataclass(frozen=True, slots=True)
class Given:
    """One input as it is handed to a stage: a path, and the identity of what is there."""

    path: Path
    id: str
    part: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """A finished stage: its artifact, and whether it had been made before."""

    artifact: Artifact
    is_reused: bool


def find_stage(kind: str) -> Stage:
    """The module of a stage kind."""
    return cast(Stage, kinds.find(STAGES, kind))


def identity(kind: str, config: Base, inputs: Mapping[str, Given]) -> str:
    """SHA-256 over everything that can change what the stage makes."""
    stage = find_stage(kind)
    module = f"{STAGES}.{kind}"
    fingerprint = kinds.member(stage, "fingerprint")
    return hash_json(
        {
            "stage": kind,
            "version": stage.VERSION,
            "config": identifying(config),
            "content": fingerprint(config) if fingerprint else None,
            "code": sorted(filter(None, {kinds.foreign_hash(name) for name in {module, *_modules(config)}})),
            "inputs": {role: [given.id, given.part] for role, given in sorted(inputs.items())},
        }
    )


def run_stage(
    kind: str, config: Base, inputs: Mapping[str, Given], store: Path, *, announce: Announce | None = None
) -> Result:
    """Make the artifact in the store, or reuse it; a second process that wants the same one waits for it."""
    artifact_id = identity(kind, config, inputs)
    folder = store / f"{kind}-{artifact_id[:16]}"
    store.mkdir(parents=True, exist_ok=True)
    with _lock(folder.with_name(folder.name + ".lock")):
        if (folder / MANIFEST).is_file():
            return Result(read_artifact(folder), is_reused=True)
        _make(kind, config, inputs, folder.with_name(folder.name + ".partial"), artifact_id, announce)
        _publish(folder.with_name(folder.name + ".partial"), folder)
        return Result(read_artifact(folder), is_reused=False)


def run_into(
    kind: str, config: Base, inputs: Mapping[str, Given], out: Path, *, announce: Announce | None = None
) -> Artifact:
    """Run one stage into a folder of the user's, new or empty; work goes to a `.partial` folder beside it."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("there is something in the output folder already", where=str(out), fix="name another --out")
    artifact_id = identity(kind, config, inputs)
    partial = out.with_name(f"{out.name}-{artifact_id[:16]}.partial")
    _make(kind, config, inputs, partial, artifact_id, announce)
    if out.exists():
        out.rmdir()
    _publish(partial, out)
    return read_artifact(out)


def _make(
    kind: str, config: Base, inputs: Mapping[str, Given], out: Path, artifact_id: str, announce: Announce | None
) -> None:
    """Let the stage work in a folder that may hold what an interrupted run left; the manifest comes last."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        with _FullDisk(kind, out):
            if announce and kinds.member(find_stage(kind), "IS_SHARED"):
                announce(kind, config, {role: given.path for role, given in inputs.items()}, out)
            _work(kind, config, inputs, out, artifact_id)
    finally:
        release_memory()
        if not any(out.iterdir()):
            out.rmdir()


def _publish(partial: Path, folder: Path) -> None:
    """A finished folder gets its name."""
    partial.rename(folder)
    sync(folder.parent)


class _FullDisk:
    """Whatever a library raises when the disk is full becomes a RunError: each library has a class of its own."""

    def __init__(self, kind: str, out: Path) -> None:
        self._kind = kind
        self._out = out

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        number = error.errno if isinstance(error, OSError) else None
        if error is None or (number not in FULL and os.strerror(errno.ENOSPC) not in str(error)):
            return
        raise RunError(
            f"the disk is full: stage {self._kind!r} could not write its result",
            where=str(self._out),
            fix="free some space and run the same command again; finished stages are reused",
        ) from error


def _work(kind: str, config: Base, inputs: Mapping[str, Given], out: Path, artifact_id: str) -> None:
    stage = find_stage(kind)
    started = time.monotonic()
    metrics = stage.run(config, {role: given.path for role, given in inputs.items()}, out)
    manifest = {
        "schema": artifact.SCHEMA,
        "id": artifact_id,
        "stage": kind,
        "version": stage.VERSION,
        "config": config.model_dump(mode="json"),
        "inputs": {role: {"id": given.id, "part": given.part, "name": given.name} for role, given in inputs.items()},
        "files": artifact.list_files(out),
        "sources": _sources(inputs, metrics),
        "metrics": metrics,
        "seconds": round(time.monotonic() - started, 3),
        "versions": artifact.versions(),
        "device": artifact.machine(),
        "environment": numeric_settings(Environment()),
    }
    write_json(out / MANIFEST, manifest)


def _sources(inputs: Mapping[str, Given], metrics: Mapping[str, Any]) -> dict[str, str | None]:
    """Names and licences of all data that is behind an artifact: its inputs' own, and what it read itself."""
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
    return {type(config).__module__}.union(*(_modules(item) for item in below))


@contextmanager
def _lock(file: Path) -> Generator[None]:
    """A lock that dies with its process; says so once when it has to wait."""
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("another run is making %s; waiting for it", file.stem)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
