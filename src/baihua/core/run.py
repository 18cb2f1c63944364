"""Runs: the steps of a recipe in order, reusing what is unchanged; `runs/NAME/stages.json` lists what was made."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from baihua.core import artifact, kinds
from baihua.core.artifact import MANIFEST, Artifact, find_artifact, hash_json, part_of, read_artifact
from baihua.core.errors import InputError
from baihua.core.files import write_json, write_text
from baihua.core.recipe import STORE, Recipe, Step
from baihua.core.stage import Announce, Given, Result, identity, run_stage

STAGES_FILE = "stages.json"
RECIPE_FILE = "recipe.yaml"


@dataclass(frozen=True, slots=True)
class Planned:
    """The folder that a step makes, and whether it is there already."""

    step: Step
    id: str
    folder: Path
    is_reused: bool


def plan(recipe: Recipe, runs: Path) -> Iterator[Planned]:
    """What each step would make or reuse; nothing is run."""
    ids: dict[str, str] = {}
    for step in recipe.steps:
        given = {role: Given(Path(), ids[source.step], source.part) for role, source in step.inputs.items()}
        ids[step.name] = identity(step.stage, step.config, given)
        folder = runs / STORE / f"{step.stage}-{ids[step.name][:16]}"
        yield Planned(step, ids[step.name], folder, (folder / MANIFEST).is_file())


def run_recipe(
    recipe: Recipe, runs: Path, *, until: str | None = None, announce: Announce | None = None
) -> Iterator[tuple[Step, Result]]:
    """Run the steps, yielding each when it is done; `until` names the last one to run."""
    folder = runs / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / RECIPE_FILE, yaml.safe_dump(recipe.tree, allow_unicode=True, sort_keys=False))
    done: dict[str, Result] = {}
    for step in _steps_until(recipe, until):
        given: dict[str, Given] = {}
        for role, source in step.inputs.items():
            made = done[source.step].artifact
            given[role] = Given(part_of(made.folder, source.part), made.id, source.part, source.step)
        done[step.name] = run_stage(step.stage, step.config, given, runs / STORE, announce=announce)
        write_json(folder / STAGES_FILE, summary(recipe.name, done, relative_to=folder))
        # A link to the artifact, for people; a folder of the user's in its place stays.
        link = folder / step.name
        if link.is_symlink():
            link.unlink()
        # Windows allows links only in developer mode; stages.json has the same information.
        with contextlib.suppress(OSError):
            link.symlink_to(os.path.relpath(done[step.name].artifact.folder, folder), target_is_directory=True)
        yield step, done[step.name]


def _steps_until(recipe: Recipe, until: str | None) -> list[Step]:
    """All steps, or the named one and those it needs."""
    if until is None:
        return recipe.steps
    names = [step.name for step in recipe.steps]
    if until not in names:
        raise InputError(kinds.unknown(until, names, what="stage"), where="--until")
    needed = {until}
    for step in reversed(recipe.steps):
        if step.name in needed:
            needed |= {source.step for source in step.inputs.values()}
    return [step for step in recipe.steps if step.name in needed]


def summary(recipe_name: str, results: Mapping[str, Result], *, relative_to: Path | None = None) -> dict[str, Any]:
    """The JSON object that `run` and `demo` print and `stages.json` holds."""
    stages: list[dict[str, Any]] = []
    for name, result in results.items():
        folder, manifest = result.artifact.folder, result.artifact.manifest
        stages.append(
            {
                "name": name,
                "stage": manifest["stage"],
                "id": manifest["id"],
                "folder": Path(os.path.relpath(folder, relative_to)).as_posix() if relative_to else str(folder),
                "reused": result.is_reused,
                "seconds": manifest["seconds"],
                "metrics": manifest["metrics"],
            }
        )
    return {"recipe": recipe_name, "stages": stages}


def given_path(path: Path, name: str = "") -> Given:
    """A file or folder as an input: its identity is that of its manifest if it is an artifact, else its content's."""
    if not path.exists():
        raise InputError("there is no such file or folder", where=str(path), fix=f"check the path given for {name!r}")
    if path.is_file():
        return Given(path, artifact.hash_file(path), name=path.name)
    known = find_artifact(path, max_depth=0)
    if known:
        return Given(path, known.id, name=path.name)
    return Given(path, hash_json([[f["path"], f["sha256"]] for f in artifact.list_files(path)]), name=path.name)


@dataclass(frozen=True, slots=True)
class Run:
    """A run on disk: its folder, its recipe's name, and the artifact folder of each step."""

    folder: Path
    name: str
    folders: dict[str, Path]
    reused: frozenset[str]
    """The steps that were made before this run."""


def find_run(name: str, runs: Path) -> Run | None:
    """The run with this name or folder, None if there is none."""
    folder = next((f for f in (runs / name, Path(name)) if (f / STAGES_FILE).is_file()), None)
    return read_run(folder) if folder else None


def read_run(folder: Path) -> Run:
    """Read the folder of a run."""
    file = folder / STAGES_FILE
    if not file.is_file():
        raise InputError("this folder is not a run: it has no stages.json", where=str(folder), fix="name a run")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"not valid JSON: {error}", where=str(file), fix="run the recipe again") from error
    folders = {stage["name"]: (folder / stage["folder"]).resolve() for stage in found["stages"]}
    return Run(folder, found["recipe"], folders, frozenset(s["name"] for s in found["stages"] if s["reused"]))


def served_model(run: Run) -> Path:
    """The model of a run: the one that its recipe serves, else the last one made, of GGUF files the smallest."""
    wanted = yaml.safe_load((run.folder / RECIPE_FILE).read_text(encoding="utf-8")).get("serve")
    if wanted:
        name, _, part = str(wanted).partition("/")
        if name not in run.folders:
            raise InputError(f"the recipe serves {wanted!r}, which is not built yet", where=str(run.folder))
        return part_of(run.folders[name], part)
    for folder in reversed(run.folders.values()):
        levels = sorted(folder.glob("model-*.gguf"), key=lambda file: (file.stat().st_size, file.name))
        if levels:
            return levels[0]
        if (folder / "config.json").is_file():
            return folder
    raise InputError("this run has not made a model yet", where=str(run.folder), fix="run its recipe to the end")


def find_artifacts(name: str, runs: Path) -> list[Artifact]:
    """The artifacts of a run by its name or folder, or the one that a path is or lies in."""
    run = find_run(name, runs)
    if run:
        return [read_artifact(folder) for folder in run.folders.values()]
    found = find_artifact(Path(name))
    if found is None:
        raise InputError("neither a run nor an artifact, nor a path inside one", where=name, fix="check the path")
    return [found]


def find_in_store(artifact_id: str, store: Path) -> Artifact | None:
    """The finished artifact with this identity in a folder of artifacts, None if it is not there."""
    folders = sorted(store.glob(f"*-{artifact_id[:16]}"))
    return find_artifact(folders[0], max_depth=0) if folders else None


def lineage(made: Artifact) -> dict[str, Any]:
    """An artifact as a tree with what it was made from, down to imported files."""
    manifest = made.manifest
    inputs: dict[str, Any] = {}
    for role, given in manifest["inputs"].items():
        source = find_in_store(given["id"], made.folder.parent)
        file = {"stage": "file", "id": given["id"], "content": given["name"]}
        inputs[role] = lineage(source) if source else file | {"metrics": {}, "inputs": {}}
    content = manifest["config"].get("source") or ", ".join(map(str, manifest["config"].get("files", [])))
    facts = {"stage": manifest["stage"], "id": made.id, "folder": str(made.folder), "content": content}
    return facts | {"metrics": manifest["metrics"], "inputs": inputs}


def unneeded(runs: Path, keep: Sequence[str]) -> list[Path]:
    """Folders of the store that no kept run needs, unfinished work, and the folders of other runs."""
    kept: set[Path] = set()
    for name in keep:
        run = find_run(name, runs)
        if run is None:
            raise InputError(f"there is no run {name!r}", where=str(runs), fix="give the name of a folder in there")
        kept |= {run.folder.resolve(), *run.folders.values()}
    store = runs / STORE
    others = [folder for folder in runs.iterdir() if (folder / STAGES_FILE).is_file()] if runs.is_dir() else []
    made = [f for f in store.iterdir() if f.is_dir() and f.name != "calls"] if store.is_dir() else []
    return sorted(folder for folder in [*others, *made] if folder.resolve() not in kept)


def remove(folders: Sequence[Path]) -> None:
    """Remove folders, the manifest first: after a kill no incomplete folder looks finished."""
    for folder in folders:
        (folder / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(folder)
