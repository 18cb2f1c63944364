"""Run a recipe: each step in order, reusing what is unchanged, with `runs/NAME/stages.json` as the truth."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from baihua.core import artifact, kinds
from baihua.core.artifact import MANIFEST, Artifact, find_artifact, hash_json, list_files, part_of, read_artifact
from baihua.core.errors import InputError
from baihua.core.files import write_json, write_text
from baihua.core.recipe import STORE, Recipe, Step
from baihua.core.stage import Announce, Given, Result, identity, run_stage

STAGES_FILE = "stages.json"


@dataclass(frozen=True, slots=True)
class Planned:
    """What a step would do: the folder it makes, and whether that is already there."""

    step: Step
    id: str
    folder: Path
    is_reused: bool


def plan(recipe: Recipe, runs: Path) -> Iterator[Planned]:
    """What each step would make or reuse, without running anything."""
    ids: dict[str, str] = {}
    for step in recipe.steps:
        given = {role: Given(Path(), ids[reference.step], reference.part) for role, reference in step.inputs.items()}
        ids[step.name] = identity(step.stage, step.config, given)
        folder = runs / STORE / f"{step.stage}-{ids[step.name][:16]}"
        yield Planned(step, ids[step.name], folder, (folder / MANIFEST).is_file())


def run_recipe(
    recipe: Recipe, runs: Path, *, until: str | None = None, announce: Announce | None = None
) -> Iterator[tuple[Step, Result]]:
    """Run the steps, yielding each as it is done; `until` names the last step that is wanted."""
    folder = runs / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "recipe.yaml", yaml.safe_dump(recipe.tree, allow_unicode=True, sort_keys=False))
    done: dict[str, Result] = {}
    for step in _wanted(recipe, until):
        given = {
            role: Given(
                _input_path(done[reference.step].artifact.folder, reference.part),
                done[reference.step].artifact.id,
                reference.part,
                reference.step,
            )
            for role, reference in step.inputs.items()
        }
        done[step.name] = run_stage(step.stage, step.config, given, runs / STORE, announce=announce)
        _record(folder, recipe, done)
        yield step, done[step.name]


def summary(recipe_name: str, results: Mapping[str, Result], *, relative_to: Path | None = None) -> dict[str, Any]:
    """The JSON object that `run` and `demo` print and `stages.json` holds."""
    stages: list[dict[str, Any]] = []
    for name, result in results.items():
        folder = result.artifact.folder
        manifest = result.artifact.manifest
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
    """A plain file or folder as an input: its identity is its content, or its manifest's if it is an artifact."""
    if not path.exists():
        raise InputError("there is no such file or folder", where=str(path), fix=f"check the path given for {name!r}")
    if path.is_file():
        return Given(path, artifact.hash_file(path), name=path.name)
    known = find_artifact(path, max_depth=0)
    if known:
        return Given(path, known.id, name=path.name)
    return Given(path, hash_json([[f["path"], f["sha256"]] for f in list_files(path)]), name=path.name)


def _wanted(recipe: Recipe, until: str | None) -> list[Step]:
    """All steps, or the one named and those it needs."""
    if until is None:
        return recipe.steps
    by_name = {step.name: step for step in recipe.steps}
    if until not in by_name:
        raise InputError(kinds.unknown(until, list(by_name), what="stage"), where="--until")
    needed = {until}
    for step in reversed(recipe.steps):
        if step.name in needed:
            needed |= {reference.step for reference in step.inputs.values()}
    return [step for step in recipe.steps if step.name in needed]


def _input_path(folder: Path, part: str) -> Path:
    return part_of(folder, part) if part else folder


def _record(folder: Path, recipe: Recipe, done: Mapping[str, Result]) -> None:
    """Write `stages.json` and a link per step, where the system allows links."""
    write_json(folder / STAGES_FILE, summary(recipe.name, done, relative_to=folder))
    for name, result in done.items():
        link = folder / name
        if link.is_symlink():
            link.unlink()
        # Windows allows links only with developer mode; stages.json says the same.
        with contextlib.suppress(OSError):
            link.symlink_to(os.path.relpath(result.artifact.folder, folder), target_is_directory=True)


@dataclass(frozen=True, slots=True)
class Run:
    """A run on disk: its folder, the recipe it was built from, and the artifact folder of each step."""

    folder: Path
    recipe: dict[str, Any]
    folders: dict[str, Path]


def find_run(name: str, runs: Path) -> Run | None:
    """The run of that name or folder, None if there is none."""
    folder = next((f for f in (runs / name, Path(name)) if (f / STAGES_FILE).is_file()), None)
    if folder is None:
        return None
    stages = json.loads((folder / STAGES_FILE).read_text(encoding="utf-8"))["stages"]
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    return Run(folder, recipe, {stage["name"]: (folder / stage["folder"]).resolve() for stage in stages})


def served_model(run: Run) -> Path:
    """The model of a run: what its recipe serves, else the last model made, the smallest GGUF first."""
    wanted = run.recipe.get("serve")
    if wanted:
        name, _, part = str(wanted).partition("/")
        if name not in run.folders:
            raise InputError(f"the recipe serves {wanted!r}, which is not built yet", where=str(run.folder))
        return _input_path(run.folders[name], part)
    for folder in reversed(run.folders.values()):
        levels = sorted(folder.glob("model-*.gguf"), key=lambda file: (file.stat().st_size, file.name))
        if levels:
            return levels[0]
        if (folder / "config.json").is_file():
            return folder
    raise InputError("this run has made no model yet", where=str(run.folder), fix="run its recipe to the end")


def find_artifacts(name: str, runs: Path) -> list[Artifact]:
    """The artifacts of a run by its name or folder, or the one that a path is or lies in."""
    run = find_run(name, runs)
    if run:
        return [read_artifact(folder) for folder in run.folders.values()]
    found = find_artifact(Path(name))
    if found is None:
        raise InputError("neither a run nor an artifact, nor a path inside one", where=name, fix="check the path")
    return [found]


def lineage(made: Artifact) -> dict[str, Any]:
    """An artifact as a tree with what it was made from, down to imported files."""
    inputs: dict[str, Any] = {}
    for role, given in made.manifest["inputs"].items():
        source = find_in_store(given["id"], made.folder.parent)
        absent: dict[str, Any] = {
            "stage": "file",
            "id": given["id"],
            "content": given["name"],
            "metrics": {},
            "inputs": {},
        }
        inputs[role] = lineage(source) if source else absent
    config = made.manifest["config"]
    return {
        "stage": made.manifest["stage"],
        "id": made.id,
        "folder": str(made.folder),
        "content": config.get("source") or ", ".join(map(str, config.get("files", []))),
        "metrics": made.manifest["metrics"],
        "inputs": inputs,
    }


def find_in_store(artifact_id: str, store: Path) -> Artifact | None:
    """The finished artifact with this identity in a folder of artifacts, None if it is not there."""
    folders = sorted(store.glob(f"*-{artifact_id[:16]}"))
    return find_artifact(folders[0], max_depth=0) if folders else None


def unneeded(runs: Path, keep: list[str]) -> list[Path]:
    """Folders of the store that no kept run needs, unfinished work, and run folders that are not kept."""
    kept: set[Path] = set()
    for name in keep:
        run = find_run(name, runs)
        if run is None:
            raise InputError(f"there is no run {name!r}", where=str(runs), fix="the names are the folders in there")
        kept |= {run.folder.resolve(), *run.folders.values()}
    others = [folder for folder in runs.iterdir() if (folder / STAGES_FILE).is_file()] if runs.is_dir() else []
    store = runs / STORE
    made = [f for f in store.iterdir() if f.is_dir() and f.name != "calls"] if store.is_dir() else []
    return sorted(folder for folder in [*others, *made] if folder.resolve() not in kept)


def remove(folders: list[Path]) -> None:
    """Remove folders; a folder loses its manifest first, so that a kill cannot leave a half one that looks whole."""
    for folder in folders:
        (folder / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(folder)
