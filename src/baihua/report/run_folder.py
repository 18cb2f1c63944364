"""The stages of a run, in order, with their artifacts."""

from dataclasses import dataclass
from typing import Any

from baihua.core.artifact import Artifact, read_artifact
from baihua.core.run import Run


@dataclass(frozen=True, slots=True)
class StageResult:
    """One stage of a run; `name` is the recipe's."""

    name: str
    artifact: Artifact
    is_reused: bool

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest of its artifact."""
        return self.artifact.manifest

    @property
    def kind(self) -> str:
        """The kind of the stage, such as `tune`."""
        return self.manifest["stage"]

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures that the stage measured."""
        return self.manifest["metrics"]

    @property
    def label(self) -> str:
        """The recipe's label for this stage in tables, else its name."""
        return self.manifest["config"].get("label") or self.name

    def describe_input(self, role: str) -> str:
        """The stage and part that an input came from, as in a recipe; its identity where it has no name."""
        given = self.manifest["inputs"].get(role)
        if given is None:
            return ""
        name = given["name"] or given["id"][:12]
        return f"{name}/{given['part']}" if given["part"] else name


def read_stages(run: Run) -> list[StageResult]:
    """The stages of a run with their manifests."""
    return [StageResult(name, read_artifact(folder), name in run.reused) for name, folder in run.folders.items()]
