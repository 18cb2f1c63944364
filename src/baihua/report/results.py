"""The stages of a run with their artifacts, and the same measures of several models next to each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from baihua.core.artifact import Artifact, read_artifact
from baihua.core.run import Run
from baihua.core.tables import Table

MEASURED = ("bits", "answer")


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


def before_after(stages: Sequence[StageResult]) -> Table | None:
    """One row for each measure, one column for each label, in the recipe's order; None without such stages."""
    measured = [stage for stage in stages if stage.kind in MEASURED]
    if not measured:
        return None
    cells: dict[str, dict[str, Any]] = {}
    for stage in measured:
        # The data is named where stages of this kind measured different data.
        data = {other.describe_input("data") for other in measured if other.kind == stage.kind}
        suffix = f" on {stage.describe_input('data')}" if len(data) > 1 else ""
        for measure, value in _measures(stage):
            row = cells.setdefault(measure + suffix, {})
            # If two stages of one kind have the same label by mistake, both figures are shown.
            row[stage.name if stage.label in row else stage.label] = value
    labels = list(dict.fromkeys(label for row in cells.values() for label in row))
    return Table(["measure", *labels], [[name, *(row.get(label) for label in labels)] for name, row in cells.items()])


def _measures(stage: StageResult) -> Iterator[tuple[str, Any]]:
    metrics = stage.metrics
    if stage.kind == "bits":
        yield "bits per character", metrics.get("bits_per_char")
        yield "bits per byte", metrics.get("bits_per_byte")
        yield "characters measured", metrics.get("num_chars")
    else:
        yield "answers mainly in Chinese", _count_of(metrics.get("num_mainly_chinese"), metrics.get("num_answers"))
        yield "answers that end by themselves", _count_of(metrics.get("num_stopped"), metrics.get("num_answers"))
        yield "answer tokens per second", metrics.get("tokens_per_second")


def _count_of(count: int | None, total: int | None) -> str | None:
    if count is None or not total:
        return None
    return f"{count:,} of {total:,} ({count / total:.0%})"
