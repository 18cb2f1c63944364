import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from baihua.compress.damage.summary import INK, draw
from baihua.core import kinds
from baihua.core.errors import InputError
from baihua.core.run import read_run
from baihua.core.tables import Table
from baihua.report.page import table_html
from baihua.report.plot import Line, draw_lines
from baihua.report.reports import run
from baihua.report.results import before_after, read_stages

EVIL = "<script>alert(1)</script> | 你好，我是白话。\n第二行 \\"


class Run:
    """A run folder that is written stage by stage."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "first-chatbot"
        self.folder.mkdir(parents=True)
        self.stages: list[dict[str, Any]] = []
        self.write()

    def add(
        self, name: str, kind: str, metrics: dict[str, Any], *, label: str = "", inputs: dict[str, str] | None = None
    ) -> Path:
        stage_id = f"{len(self.stages):064x}"[::-1]
        folder = self.root / "store" / f"{kind}-{stage_id[:16]}"
        folder.mkdir(parents=True)
        given = {
            role: dict(zip(("name", "part"), f"{text}/".split("/")[:2], strict=True))
            for role, text in (inputs or {}).items()
        }
        manifest = {
            "schema": 1,
            "id": stage_id,
            "stage": kind,
            "version": 1,
            "config": {"label": label} if label else {},
            "inputs": {role: {"id": "f" * 64, **value} for role, value in given.items()},
            "files": [],
            "metrics": metrics,
            "seconds": 12.5,
            "versions": {"baihua": "0.1.0", "torch": "2.13.0"},
            "device": {"system": "Linux", "machine": "x86_64", "python": "3.11.2", "gpus": []},
        }
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        where = Path("..") / folder.relative_to(self.root) if len(self.stages) % 2 else folder
        self.stages.append(
            {
                "name": name,
                "stage": kind,
                "id": stage_id,
                "folder": str(where),
                "reused": False,
                "seconds": 12.5,
                "metrics": metrics,
            }
        )
        self.write()
        return folder

    def write(self) -> None:
        text = json.dumps({"recipe": "first-chatbot", "stages": self.stages})
        (self.folder / "stages.json").write_text(text, encoding="utf-8")

    def report(self) -> tuple[str, str]:
        html, markdown = run.write(self.folder)
        return html.read_text(encoding="utf-8"), markdown.read_text(encoding="utf-8")


@pytest.fixture
def a_run(tmp_path: Path) -> Run:
    return Run(tmp_path / "runs")


def add_answers(a_run: Run, label: str, answer: str) -> None:
    metrics = {"num_answers": 20, "num_mainly_chinese": 18, "tokens_per_second": 31.25}
    folder = a_run.add(f"{label}-says", "answer", metrics, label=label, inputs={"data": "parts/heldout"})
    message = {"role": "user", "content": f"介绍一下你自己 {EVIL}", "input": None}
    row = {"question_id": "q1", "sample": 0, "messages": [message], "answer": answer}
    pq.write_table(pa.Table.from_pylist([row]), folder / "answers.parquet")


def add_everything(a_run: Run) -> None:
    dropped = {"num_rows_in": 120, "num_rows_kept": 100, "num_rows_dropped": {"few_han": 15, "近似重复": 5}}
    a_run.add("base", "import_model", {"num_parameters": 134_515_008})
    a_run.add("raw", "import_data", dropped | {"num_rows_changed": {}, "num_rows_added": {}})
    a_run.add(
        "parts", "split", {"num_rows_in": 100, "num_rows_train": 90, "num_rows_heldout": 10}, inputs={"data": "raw"}
    )
    tune = a_run.add("tune", "tune", {"num_steps": 60, "peak_memory_bytes": 1_610_612_736, "eval_bits_per_char": 3.1})
    steps = [{"step": i, "loss": 4 / i**0.3, "learning_rate": 1e-4, "num_tokens": i * 900} for i in range(1, 61)]
    lines = [*steps, {"step": 30, "eval_bits_per_char": 3.4}, {"step": 60, "eval_bits_per_char": 3.1}]
    (tune / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    a_run.add("whole", "merge", {"mean_kl": 1.2e-9, "same_top_share": 1.0, "max_abs_logit_difference": 3.1e-5})
    level = {"level": "q8_0", "file": "model-q8_0.gguf", "file_bytes": 145_000_000, "bits_per_weight": 8.5}
    a_run.add("small", "quantize", {"levels": [level]}, inputs={"model": "whole"})
    for label, bits in (("base", 5.25), ("result", 3.1)):
        data = {"data": "parts/heldout", "model": "base"}
        a_run.add(f"bits-{label}", "bits", {"bits_per_char": bits, "num_chars": 12_345}, label=label, inputs=data)
    add_answers(a_run, "base", "I am a language model.")
    add_answers(a_run, "result", EVIL)
    a_run.add("新词", "vocabulary", {"num_tokens_before": 49152, "chars_per_token_after": None})


def compared(a_run: Run) -> Table:
    table = before_after(read_stages(read_run(a_run.folder)))
    assert table is not None
    return table


def test_the_page_needs_nothing_from_outside_and_runs_nothing(a_run: Run) -> None:
    add_everything(a_run)
    html, _ = a_run.report()
    assert not re.findall(r"https?://|<script|<link|<iframe|@import|src=|url\((?!#)", html)


def test_what_a_model_says_stays_text(a_run: Run) -> None:
    add_everything(a_run)
    html, markdown = a_run.report()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "&lt;script&gt;" in markdown and "<script" not in markdown


def test_the_same_run_gives_the_same_report(a_run: Run) -> None:
    add_everything(a_run)
    assert a_run.report() == a_run.report()


def test_every_part_of_a_run_is_in_both_reports(a_run: Run) -> None:
    add_everything(a_run)
    for text in a_run.report():
        for part in (
            "first-chatbot",
            "Linux",
            "few_han",
            "近似重复",
            "num_rows_heldout",
            "Bits per character, held out",
        ):
            assert part in text
        for part in (
            "18 of 20 (90%)",
            "1.2e-09",
            "145.0 MB",
            "1.61 GB",
            "whole",
            "parts/heldout",
            "2.13.0",
            "新词 (vocabulary)",
        ):
            assert part in text


def test_the_curve_is_part_of_the_page_and_takes_its_ink(a_run: Run) -> None:
    add_everything(a_run)
    html, _ = a_run.report()
    assert html.count("<svg") == 2
    assert "currentColor" in html


def test_a_missing_figure_is_a_dash_and_not_zero(a_run: Run) -> None:
    a_run.add("bits", "bits", {"num_chars": 10})
    _, markdown = a_run.report()
    assert re.search(r"\| bits per character +\| +– \|", markdown)


def test_an_empty_run_has_a_report(a_run: Run) -> None:
    html, markdown = a_run.report()
    assert "<h1>first-chatbot</h1>" in html and "# first-chatbot" in markdown


def test_a_tuning_without_its_curve_is_still_reported(a_run: Run) -> None:
    a_run.add("tune", "tune", {"num_steps": 3})
    html, _ = a_run.report()
    assert "num_steps" in html and "<svg" not in html


def test_labels_are_columns_and_stages_without_one_use_their_name(a_run: Run) -> None:
    a_run.add("x", "bits", {"bits_per_char": 5.0}, label="base")
    a_run.add("y", "bits", {"bits_per_char": 4.0})
    table = compared(a_run)
    assert table.columns == ["measure", "base", "y"]
    assert table.rows[0] == ["bits per character", 5.0, 4.0]


def test_figures_about_different_data_are_never_in_one_row(a_run: Run) -> None:
    a_run.add("x", "bits", {"bits_per_char": 5.0}, label="base", inputs={"data": "news"})
    a_run.add("y", "bits", {"bits_per_char": 4.0}, label="base", inputs={"data": "parts/heldout"})
    names = [row[0] for row in compared(a_run).rows]
    assert "bits per character on news" in names and "bits per character on parts/heldout" in names


def test_a_run_that_measured_nothing_has_nothing_to_compare(a_run: Run) -> None:
    assert before_after(read_stages(read_run(a_run.folder))) is None


def test_two_stages_with_one_label_both_stay_visible(a_run: Run) -> None:
    a_run.add("x", "bits", {"bits_per_char": 5.0}, label="base")
    a_run.add("y", "bits", {"bits_per_char": 4.0}, label="base")
    assert compared(a_run).rows[0] == ["bits per character", 5.0, 4.0]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"this folder is not a run: it has no stages\.json"):
        run.write(tmp_path)


def test_a_broken_list_of_stages_is_refused(tmp_path: Path) -> None:
    (tmp_path / "stages.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"not valid JSON"):
        run.write(tmp_path)


def test_the_run_report_is_found_by_its_file_name() -> None:
    assert kinds.find("baihua.report.reports", "run") is run


def test_html_cells_are_escaped() -> None:
    assert "<b>" not in table_html(Table(["<b>"], [["<b>"]]))


def test_chinese_labels_stay_text_in_fonts_that_have_them(recwarn: pytest.WarningsRecorder) -> None:
    svg = draw_lines([Line("损失 $x", [1, 2], [3, 2]), Line("评估", [1], [3])], x_label="步数", y_label="损失")
    assert {"损失 $x", "评估", "步数"} <= set(re.findall(r">([^<>]+)</text>", svg))
    assert "Noto Sans CJK SC" in svg
    assert not recwarn.list


def add_damage(a_run: Run, *, has_chart: bool = True) -> None:
    loss = {"num_texts_zh": 60, "mean_kl_zh": 0.0686, "mean_kl_zh_se": 0.002, "bits_per_char_ratio_zh": 1.043}
    reference = {"level": "f16", "file_bytes": 270_900_000, "bits_per_weight": 16.0}
    level = {"level": "q4_k_m", "file_bytes": 105_500_000, "bits_per_weight": 6.2} | loss
    folder = a_run.add("cost", "damage", {"levels": [reference, level], "advice": "Take q4_k_m <for now>."})
    svg = draw([reference, level])
    assert svg
    if has_chart:
        (folder / "damage.svg").write_text(svg, encoding="utf-8")


def test_what_quantization_costs_is_in_both_reports(a_run: Run) -> None:
    add_damage(a_run)
    html, markdown = a_run.report()
    for text in (html, markdown):
        assert "What quantization costs: cost" in text and "Take q4_k_m &lt;for now&gt;." in text
        assert "0.069 ± 0.002" in text and "1.0430" in text and "105.5" in text
    assert "Other stages" not in markdown


def test_the_chart_of_damage_stands_in_the_page_in_its_own_ink(a_run: Run) -> None:
    add_damage(a_run)
    html, _ = a_run.report()
    assert html.count("<svg") == 1 and ">q4_k_m</text>" in html
    assert "currentColor" in html and INK not in html and "http" not in html


def test_damage_without_a_chart_is_still_reported(a_run: Run) -> None:
    add_damage(a_run, has_chart=False)
    html, _ = a_run.report()
    assert "What quantization costs" in html and "<svg" not in html
