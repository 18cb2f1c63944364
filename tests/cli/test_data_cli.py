"""Data on the command line: recipes, catalogue, figures, pages, licences."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_runs import run_here
from fakes import talk, write_lines

from baihua.core.errors import RecipeError
from baihua.core.recipe import lone_step, validate

Capture = pytest.CaptureFixture[str]
DOCS = Path(__file__).parents[2] / "docs" / "data.md"
FILTERS = [{"kind": "width"}, {"kind": "length", "minimum_chars": 4}]
STAGES: dict[str, Any] = {
    "raw": {"stage": "import_data", "files": ["forum.jsonl"], "licence": "CC-BY-4.0"},
    "who": {"stage": "identity", "name": "小白", "maker": "读书会"},
    "clean": {"stage": "clean", "inputs": {"data": "raw"}, "filters": FILTERS},
    "mixed": {"stage": "mix", "inputs": {"data": "clean", "data_2": "who"}, "caps": {"data_2": 20}},
    "few": {"stage": "subset", "inputs": {"data": "mixed"}, "num_rows": 20},
    "look": {"stage": "inspect", "inputs": {"data": "few"}, "num_topics": 2},
    "parts": {"stage": "split", "inputs": {"data": "few"}, "heldout_share": 0.3},
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_lines(tmp_path / "forum.jsonl", [talk(f"你好，第{n}问!", f"回答{n}") for n in range(30)] + [talk("好", "答")])
    recipe = {"name": "talks", "stages": STAGES}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return tmp_path


def build(project: Path, capsys: Capture, *flags: str) -> dict[str, Any]:
    found = run_here(capsys, "run", str(project / "recipe.yaml"), "--runs", str(project / "runs"), "--json", *flags)
    assert found.status == 0, found.err
    return {stage["name"]: stage for stage in found.json["stages"]}


def test_licences_travel_with_the_rows_and_leave_with_them(project: Path, capsys: Capture) -> None:
    stages = build(project, capsys)
    sources = {
        name: json.loads((Path(stage["folder"]) / "manifest.json").read_text(encoding="utf-8"))["sources"]
        for name, stage in stages.items()
    }
    assert sources["raw"] == sources["clean"] == {"forum": "CC-BY-4.0"}
    assert set(sources["mixed"]) == {"forum", "identity"}
    assert sources["parts"].items() <= sources["mixed"].items()
    assert sources["look"] == sources["few"]
    report = (project / "runs" / "talks" / "report.html").read_text(encoding="utf-8")
    assert "CC-BY-4.0" in report


def test_an_inspection_has_a_page(project: Path, capsys: Capture) -> None:
    build(project, capsys)
    page = (project / "runs" / "talks" / "look.html").read_text(encoding="utf-8")
    assert "Report of few" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_lone_inspection_has_its_page_beside_it(project: Path, capsys: Capture) -> None:
    stages = build(project, capsys, "--until", "raw")
    words = ("do", "inspect", "num_topics=2", "--in", f"data={stages['raw']['folder']}")
    assert run_here(capsys, *words, "--out", str(project / "found")).status == 0
    assert (project / "found.html").is_file()
    assert (project / "found.md").is_file()


def test_figures_and_rows_of_data_are_shown(project: Path, capsys: Capture) -> None:
    folder = build(project, capsys, "--until", "clean")["clean"]["folder"]
    figures = run_here(capsys, "show", folder, "--stats", "--json").json
    assert figures["num_rows"] == 30
    assert "30" in run_here(capsys, "show", folder, "--stats").out
    assert "你好，第0问！" in run_here(capsys, "show", folder, "--rows", "1").out
    assert run_here(capsys, "show", folder, "--dropped", "length", "--json").json["dropped"][0]["line"] == 31


def test_documents_are_shown_as_they_are(project: Path, capsys: Capture) -> None:
    write_lines(project / "a.jsonl", [{"text": f"文章{n}"} for n in range(3)])
    out = str(project / "texts")
    assert run_here(capsys, "do", "import_data", f"files=[{project / 'a.jsonl'}]", "--out", out).status == 0
    shown = run_here(capsys, "show", out, "--rows", "2").out
    assert "文章1" in shown and "文章2" not in shown
    assert [row["text"] for row in run_here(capsys, "show", out, "--rows", "2", "--json").json["rows"]] == [
        "文章0",
        "文章1",
    ]


def test_the_catalogue_is_shown(capsys: Capture) -> None:
    assert "belle_1m" in run_here(capsys, "show", "catalog").out
    one = run_here(capsys, "show", "catalog:belle_1m").out
    assert "stage: import_data" in one
    assert "belle_1m" in run_here(capsys, "show", "catalog", "--json").json
    wrong = run_here(capsys, "show", "catalog:belle_1n")
    assert (wrong.status, wrong.out) == (2, "")
    assert "did you mean 'belle_1m'?" in wrong.err


def test_the_recipe_of_the_guide_is_valid(tmp_path: Path) -> None:
    recipe = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)[0]
    for name in ("forum/a.jsonl.gz", "eval/questions.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    steps = validate(yaml.safe_load(recipe), folder=tmp_path).steps
    assert len(steps) == 8


@pytest.mark.parametrize(
    ("filters", "path", "what", "fix"),
    [
        ([{"kind": "lenght"}], "filters.0", "unknown filter 'lenght'; did you mean 'length'?", ""),
        (["empty", {"kind": "length", "minimum": 3}], "filters.1.minimum", "unknown key 'minimum'", "minimum_chars"),
        (["empty", {"kind": "han_share", "minimum": 3}], "filters.1.minimum", "should be less than or equal to 1", ""),
        ([], "filters", "list should have at least 1 item", ""),
    ],
)  # fmt: skip
def test_a_wrong_filter_is_named_by_its_place(filters: list[Any], path: str, what: str, fix: str) -> None:
    tree = {"name": "x", "stages": {"c": {"stage": "clean", "inputs": {"data": "r"}, "filters": filters}}}
    with pytest.raises(RecipeError) as caught:
        validate(tree, folder=Path())
    problem = next(p for p in caught.value.problems if p.where.startswith("stages.c.filters"))
    assert problem.where == f"stages.c.{path}"
    assert what in problem.what
    assert fix in problem.fix


def test_a_cluster_is_refused_where_nothing_can_use_it() -> None:
    tree = {"name": "x", "stages": {"who": {"stage": "identity", "name": "a", "maker": "b"}}}
    with pytest.raises(RecipeError, match=r"no stage here can use a cluster"):
        validate(tree, folder=Path(), cluster="local")
    with pytest.raises(RecipeError, match=r"no stage here can use a cluster"):
        lone_step("identity", ["name=a", "maker=b"], roles=[], cluster="local")


def test_a_cluster_reaches_the_stages_that_can_use_it(tmp_path: Path) -> None:
    write_lines(tmp_path / "forum.jsonl", [talk("问", "答")])
    tree = {"name": "x", "stages": {"raw": STAGES["raw"], "who": STAGES["who"]}}
    configs = [step.config for step in validate(tree, folder=tmp_path, cluster="10.0.0.1:6379").steps]
    assert [vars(config).get("cluster") for config in configs] == ["10.0.0.1:6379", None]
