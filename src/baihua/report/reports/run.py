"""The report of a run: results, how they were made, and what was checked."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from baihua.compress.damage.summary import tables as damage_tables
from baihua.core.files import read_jsonl, write_text
from baihua.core.run import read_run
from baihua.core.tables import Table, format_bytes, format_value
from baihua.report.page import Page, Reply, Section, table_section, to_html, to_markdown
from baihua.report.plot import Line, draw_lines, inline
from baihua.report.results import StageResult, before_after, read_stages

NUM_REPLIES = 8
NUM_POINTS = 500
ROW_COUNTS = ("num_rows_in", "num_rows_added", "num_rows_kept", "num_rows_dropped", "num_rows_changed")
CHECKED = {"merge": "merged model with base and adapter", "quantize": "f16 file with the model"}
DISTANCES = ("mean_kl", "same_top_share", "max_abs_logit_difference")
DAMAGE_NOTE = (
    "Every level compared with the reference in llama.cpp itself, with its 8-bit activations. ± is one standard error "
    "over the texts."
)
CURVES = {"loss": "Loss per target token", "eval_bits_per_char": "Bits per character, held out"}
# Stages with sections of their own.
DATA = {"import_data", "clean", "mix", "subset", "identity", "inspect", "split"}
SHOWN = DATA | {"tune", "merge", "quantize", "damage", "bits", "answer"}


def write(run_folder: Path) -> list[Path]:
    """Write report.html and report.md into a run folder; returns both."""
    run = read_run(run_folder)
    stages = read_stages(run)
    machines = dict.fromkeys(_machine(stage.manifest["device"]) for stage in stages)
    subtitle = f"Report of a Baihua run. Machine: {'; '.join(machines) or format_value(None)}"
    page = Page(run.name, subtitle, list(_sections(stages)))
    html, markdown = run_folder / "report.html", run_folder / "report.md"
    write_text(html, to_html(page))
    write_text(markdown, to_markdown(page))
    return [html, markdown]


def _sections(stages: Sequence[StageResult]) -> Iterator[Section]:
    """The sections in the order of the page."""
    table = before_after(stages)
    if table:
        note = "Fewer bits per character are better; they compare across vocabularies, which perplexity does not."
        yield Section("Before and after", note, tables=[("", table)])
    yield from _replies(stages)
    rows = [[s.name, s.kind, s.artifact.id[:12], s.manifest["seconds"], s.is_reused] for s in stages]
    yield from table_section("Stages", ["stage", "kind", "id", "seconds", "reused"], rows)
    yield from _data(stages)
    sources = {name: licence for stage in stages for name, licence in stage.artifact.sources.items()}
    rows = [[name, licence or "not stated"] for name, licence in sorted(sources.items())]
    yield from table_section("Data sources", ["source", "licence"], rows)
    yield from (_training(stage) for stage in stages if stage.kind == "tune")
    rows = [[s.name, CHECKED[s.kind], *map(s.metrics.get, DISTANCES)] for s in stages if s.kind in CHECKED]
    columns = ["stage", "compared", "mean KL", "same top token", "largest logit difference"]
    yield from table_section("Checks", columns, rows)
    levels = [(s.name, level) for s in stages if s.kind == "quantize" for level in s.metrics.get("levels", [])]
    rows = [[n, x["level"], x["file"], format_bytes(x.get("file_bytes")), x.get("bits_per_weight")] for n, x in levels]
    yield from table_section("Model sizes", ["stage", "level", "file", "size", "bits per weight"], rows)
    yield from (_damage(stage) for stage in stages if stage.kind == "damage")
    tables = [(f"{s.name} ({s.kind})", _figures(s.metrics)) for s in stages if s.kind not in SHOWN and s.metrics]
    if tables:
        yield Section("Other stages", tables=tables)
    rows = [[s.name, ", ".join(f"{role}: {s.describe_input(role)}" for role in s.manifest["inputs"])] for s in stages]
    yield from table_section("Lineage", ["stage", "made from"], rows)
    found: dict[str, dict[str, None]] = {}
    for name, version in (item for stage in stages for item in stage.manifest["versions"].items()):
        found.setdefault(name, {})[version] = None
    versions = [[name, ", ".join(values)] for name, values in sorted(found.items())]
    yield from table_section("Versions", ["package", "version"], versions)


def _replies(stages: Sequence[StageResult]) -> Iterator[Section]:
    questions: dict[str, str] = {}
    answers: dict[str, list[tuple[str, str]]] = {}
    for stage in stages:
        file = stage.artifact.folder / "answers.parquet"
        if stage.kind != "answer" or not file.is_file():
            continue
        columns = ["question_id", "sample", "messages", "answer"]
        for row in pq.read_table(file, columns=columns, filters=[("sample", "=", 0)]).to_pylist():
            asked = [message for message in row["messages"] if message["role"] == "user"][-1:]
            texts = [text for message in asked for text in (message["content"], message["input"]) if text]
            questions.setdefault(row["question_id"], "\n".join(texts))
            answers.setdefault(row["question_id"], []).append((stage.label, row["answer"]))
    # The questions that most models answered.
    most = max((len(found) for found in answers.values()), default=0)
    chosen = [name for name, found in answers.items() if len(found) == most][:NUM_REPLIES]
    if chosen:
        note = f"Questions shown: {len(chosen)} of {len(questions):,}, the first sample of each."
        yield Section("Sample replies", note, replies=[Reply(questions[name], answers[name]) for name in chosen])


def _data(stages: Sequence[StageResult]) -> Iterator[Section]:
    counted = [stage for stage in stages if "num_rows_in" in stage.metrics]
    if not counted:
        return
    rows: list[list[Any]] = []
    for stage in counted:
        counts = [stage.metrics.get(name) for name in ROW_COUNTS]
        rows.append([stage.name, *(sum(count.values()) if isinstance(count, dict) else count for count in counts)])
    reasons = [
        [stage.name, name.removeprefix("num_rows_"), reason, count]
        for stage in counted
        for name in ("num_rows_dropped", "num_rows_changed", "num_rows_added")
        for reason, count in sorted((stage.metrics.get(name) or {}).items())
    ]
    tables = [("", Table(["stage", *(name.removeprefix("num_rows_") for name in ROW_COUNTS)], rows))]
    if reasons:
        tables.append(("By reason", Table(["stage", "what", "reason", "rows"], reasons)))
    for stage in counted:
        if stage.kind == "split":
            parts = {name: value for name, value in stage.metrics.items() if name not in ROW_COUNTS}
            tables.append((f"Split {stage.name}", _figures(parts)))
    yield Section("Data", "Rows in + added = rows kept + dropped.", tables=tables)


def _training(stage: StageResult) -> Section:
    file = stage.artifact.folder / "metrics.jsonl"
    rows = [row for _, row in read_jsonl(file)] if file.is_file() else []
    curves: list[tuple[str, str]] = []
    for key, title in CURVES.items():
        points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
        if points:
            xs, ys = zip(*points[:: 1 + len(points) // NUM_POINTS], strict=True)
            curves.append((title, draw_lines([Line(title, xs, ys)], x_label="step", y_label=key.replace("_", " "))))
    return Section(f"Training: {stage.name}", tables=[("", _figures(stage.metrics))], curves=curves)


def _damage(stage: StageResult) -> Section:
    """The advice, the tables, and the chart that the stage drew."""
    chart = stage.artifact.folder / "damage.svg"
    curves = [("Loss against size", inline(chart.read_text(encoding="utf-8")))] if chart.is_file() else []
    note = " ".join(filter(None, (stage.metrics.get("advice"), DAMAGE_NOTE)))
    title = f"What quantization costs: {stage.name}"
    return Section(title, note, tables=damage_tables(stage.metrics), curves=curves)


def _figures(metrics: dict[str, Any]) -> Table:
    """Metrics under their names in the manifest; sizes in a readable unit."""
    rows = [[name, format_bytes(v) if name.endswith("_bytes") else format_value(v)] for name, v in metrics.items()]
    return Table(["figure", "value"], rows)


def _machine(device: dict[str, Any] | str | None) -> str:
    if not isinstance(device, dict):
        return format_value(device)
    first = [str(device[name]) for name in ("system", "machine") if name in device]
    others = [f"{name} {format_value(device[name])}" for name in device if name not in ("system", "machine", "gpus")]
    return ", ".join([*first, *others, *(device.get("gpus") or [])])
