"""What quantization costs, as a section of a run's report."""

from collections.abc import Iterator, Sequence

from baihua.compress.damage.summary import tables
from baihua.report.page import Section
from baihua.report.run_folder import StageResult

TITLE = "What quantization costs"
NOTE = (
    "Every level beside the reference in llama.cpp itself, its 8-bit activations included. ± is one standard error, "
    "the texts being the draws."
)


def sections(stages: Sequence[StageResult]) -> Iterator[Section]:
    """One section per stage `damage`: the advice, the tables, and the chart that the stage drew."""
    for stage in stages:
        if stage.kind != "damage":
            continue
        # Matplotlib takes a second to import; a run that measured no damage needs none.
        from baihua.report.plot import inline

        chart = stage.folder / "damage.svg"
        curves = [("Loss against size", inline(chart.read_text(encoding="utf-8")))] if chart.is_file() else []
        note = " ".join(filter(None, (stage.metrics.get("advice"), NOTE)))
        yield Section(f"{TITLE}: {stage.name}", note, tables=tables(stage.metrics), curves=curves)
