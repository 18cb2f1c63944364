"""The sections of a run's report about damage by quantization."""

from collections.abc import Iterator, Sequence

from baihua.compress.damage.summary import tables
from baihua.report.page import Section
from baihua.report.plot import inline
from baihua.report.run_folder import StageResult

TITLE = "What quantization costs"
NOTE = (
    "Every level compared with the reference in llama.cpp itself, with its 8-bit activations. ± is one standard error "
    "over the texts."
)


def sections(stages: Sequence[StageResult]) -> Iterator[Section]:
    """One section per stage `damage`: the advice, the tables, and the chart that the stage drew."""
    for stage in stages:
        if stage.kind != "damage":
            continue
        chart = stage.artifact.folder / "damage.svg"
        curves = [("Loss against size", inline(chart.read_text(encoding="utf-8")))] if chart.is_file() else []
        note = " ".join(filter(None, (stage.metrics.get("advice"), NOTE)))
        yield Section(f"{TITLE}: {stage.name}", note, tables=tables(stage.metrics), curves=curves)
