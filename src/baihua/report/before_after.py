"""The same measures of several models next to each other, usually of the base model and the result."""

from collections.abc import Iterator, Sequence
from typing import Any

from baihua.core.tables import Table
from baihua.report.run_folder import StageResult

MEASURED = ("bits", "answer")


def before_after(stages: Sequence[StageResult]) -> Table | None:
    """One row for each measure, one column for each label, in the recipe's order; None without such stages."""
    measured = [stage for stage in stages if stage.kind in MEASURED]
    if not measured:
        return None
    cells: dict[str, dict[str, Any]] = {}
    for stage in measured:
        for measure, value in _measures(stage):
            row = cells.setdefault(measure + _data_suffix(stage, measured), {})
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


def _data_suffix(stage: StageResult, measured: Sequence[StageResult]) -> str:
    """The data that a figure is about, where stages of this kind measured different data."""
    data = {other.describe_input("data") for other in measured if other.kind == stage.kind}
    return f" on {stage.describe_input('data')}" if len(data) > 1 else ""
