"""What a run left behind: its stages in order, each with the manifest of its artifact."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baihua.core.artifact import read_artifact
from baihua.core.errors import InputError


@dataclass(frozen=True, slots=True)
class StageResult:
    """One stage of a run; `name` is the recipe's, `kind` the stage's."""

    name: str
    kind: str
    id: str
    folder: Path
    is_reused: bool
    seconds: float | None
    metrics: dict[str, Any]
    manifest: dict[str, Any]

    @property
    def label(self) -> str:
        """What the recipe calls the column of this stage, else its name."""
        return self.manifest["config"].get("label") or self.name

    def describe_input(self, role: str) -> str:
        """The stage and part that an input came from, as a recipe writes it; its identity for what has no name."""
        given = self.manifest["inputs"].get(role)
        if given is None:
            return ""
        name = given["name"] or given["id"][:12]
        return f"{name}/{given['part']}" if given["part"] else name


@dataclass(frozen=True, slots=True)
class Run:
    """A run: the recipe's name and its stages in order."""

    recipe: str
    stages: list[StageResult]


def read_run(run_folder: Path) -> Run:
    """Read a run folder's stages.json and the manifests that it points to."""
    file = run_folder / "stages.json"
    if not file.is_file():
        raise InputError("this folder is not a run: it has no stages.json", where=str(run_folder), fix="name a run")
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(
            f"stages.json is not valid JSON: {error}", where=str(file), fix="run the recipe again"
        ) from error
    return Run(run["recipe"], [_read_stage(run_folder, stage) for stage in run["stages"]])


def stage_folder(run_folder: Path, folder: str) -> Path:
    """The folder of a stage: absolute, or relative to the run folder or to the folder that holds it."""
    beside, inside = run_folder.parent / folder, run_folder / folder
    return (beside if beside.is_dir() else inside).resolve()


def _read_stage(run_folder: Path, stage: dict[str, Any]) -> StageResult:
    artifact = read_artifact(stage_folder(run_folder, stage["folder"]))
    return StageResult(
        name=stage["name"],
        kind=stage["stage"],
        id=stage["id"],
        folder=artifact.folder,
        is_reused=stage["reused"],
        seconds=stage.get("seconds"),
        metrics=stage.get("metrics") or artifact.manifest["metrics"],
        manifest=artifact.manifest,
    )
