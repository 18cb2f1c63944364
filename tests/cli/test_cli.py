"""The verbs: what they print, where, and the status they leave."""

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import fakes
import pytest
import yaml
from cli_runs import Outcome, run_apart, run_here
from fakes import talk, write_lines

from baihua.cli.main import VERBS

Capture = pytest.CaptureFixture[str]
HEAVY = {
    "torch", "transformers", "peft", "accelerate", "daft", "ray", "matplotlib", "pyarrow", "numpy", "pydantic",
    "tokenizers", "safetensors", "gguf", "xllamacpp", "openai", "huggingface_hub", "prompt_toolkit", "jinja2", "yaml",
}  # fmt: skip
SLOW = {"torch", "transformers", "peft", "accelerate", "daft", "ray", "matplotlib"}
INTERRUPTED = '''
"""Stop as a user does with Ctrl-C."""
from baihua.core.config import Base

VERSION = 1
INPUTS = {}
OUTPUT = ("nothing",)

class Config(Base):
    """Nothing to choose."""

def run(config, inputs, out):
    raise KeyboardInterrupt
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a recipe that reads and splits forty conversations, one row of them bad."""
    rows = [talk(f"第{n}个问题", f"第{n}个回答") for n in range(40)]
    write_lines(tmp_path / "talks.jsonl", [*rows, talk("没有回答")])
    stages = {
        "raw": {"stage": "import_data", "files": ["talks.jsonl"], "bad_rows": "drop"},
        "parts": {"stage": "split", "inputs": {"data": "raw"}, "heldout_share": 0.3},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"name": "small", "stages": stages}), encoding="utf-8")
    return tmp_path


@pytest.fixture
def built(project: Path, capsys: Capture) -> Path:
    """The same, built into `runs`."""
    assert run_here(capsys, "run", str(project / "recipe.yaml"), "--runs", str(project / "runs")).status == 0
    return project


def imported_by(code: str) -> set[str]:
    """Names of the packages that a new process imports for some code."""
    command = [sys.executable, "-X", "importtime", "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in found.stderr.splitlines()}


def test_help_imports_nothing_heavy() -> None:
    found = imported_by("import typer; from baihua.cli.main import make_app; make_app(['--help'])(['--help'])")
    assert "baihua" in found
    assert not found & HEAVY


def test_importing_the_verbs_does_not_import_the_libraries_of_models() -> None:
    assert not imported_by(f"import {', '.join(f'baihua.cli.verbs.{verb}' for verb in VERBS)}") & SLOW


def test_help_names_every_verb(capsys: Capture) -> None:
    found = run_here(capsys, "--help")
    assert found.status == 0
    for verb in VERBS:
        assert f" {verb} " in found.out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_the_sentence_of_the_list(capsys: Capture, verb: str) -> None:
    function = pkgutil.resolve_name(f"baihua.cli.verbs.{verb}:{verb}")
    assert function.__doc__ == VERBS[verb]
    assert "--debug" in run_here(capsys, verb, "--help").out


def test_an_unknown_verb_is_refused(capsys: Capture) -> None:
    found = run_here(capsys, "trian")
    assert (found.status, found.errors()[0]) == (2, "error: No such command 'trian'.")


def test_run_prints_its_stages_as_one_json_object(project: Path, capsys: Capture) -> None:
    words = ("run", str(project / "recipe.yaml"), "--runs", str(project / "runs"), "--json")
    first, second = run_here(capsys, *words), run_here(capsys, *words)
    assert (first.status, second.status) == (0, 0)
    assert first.json["recipe"] == "small"
    assert [stage["reused"] for stage in first.json["stages"]] == [False, False]
    assert [stage["reused"] for stage in second.json["stages"]] == [True, True]
    assert first.json["stages"][0]["metrics"]["num_rows_dropped"] == {"no_assistant_turn": 1}


def test_run_leaves_a_report_and_says_where(built: Path, capsys: Capture) -> None:
    found = run_here(capsys, "run", str(built / "recipe.yaml"), "--runs", str(built / "runs"))
    assert f"report: {built / 'runs' / 'small' / 'report.html'}" in found.out
    assert (built / "runs" / "small" / "report.html").is_file()
    assert "reused" in found.err


def test_until_stops_after_a_stage(project: Path, capsys: Capture) -> None:
    words = ("run", str(project / "recipe.yaml"), "--runs", str(project / "runs"), "--until", "raw", "--json")
    assert [stage["name"] for stage in run_here(capsys, *words).json["stages"]] == ["raw"]


def test_a_dry_run_makes_nothing(project: Path, capsys: Capture) -> None:
    words = ("run", str(project / "recipe.yaml"), "--runs", str(project / "runs"), "--dry-run")
    assert run_here(capsys, *words).out.split() == ["raw", "import_data", "make", "parts", "split", "make"]
    assert [stage["reused"] for stage in run_here(capsys, *words, "--json").json["stages"]] == [False, False]
    assert not (project / "runs").exists()


def test_check_finds_nothing_wrong_and_makes_nothing(project: Path, capsys: Capture) -> None:
    found = run_here(capsys, "check", str(project / "recipe.yaml"))
    assert (found.status, found.out) == (0, f"{project / 'recipe.yaml'}: 2 stages, no problem found\n")
    as_json = run_here(capsys, "check", str(project / "recipe.yaml"), "--json").json
    assert as_json["ok"]
    assert [stage["name"] for stage in as_json["stages"]] == ["raw", "parts"]


def test_check_lists_every_problem(project: Path, capsys: Capture) -> None:
    words = ("check", str(project / "recipe.yaml"), "stages.raw.fils=x", "stages.parts.heldout_share=2")
    found = run_here(capsys, *words, "--json")
    assert (found.status, found.json["ok"]) == (2, False)
    assert {problem["where"] for problem in found.json["problems"]} == {"stages.raw.fils", "stages.parts.heldout_share"}
    assert len(run_here(capsys, *words).errors()) == 5


def test_the_shipped_recipe_is_valid(capsys: Capture) -> None:
    assert run_here(capsys, "check", "demo", "--json").json["ok"]


def test_do_runs_one_stage_on_plain_files(project: Path, capsys: Capture) -> None:
    out = project / "out"
    words = ("do", "import_data", f"files=[{project / 'talks.jsonl'}]", "bad_rows=drop", "--out", str(out))
    found = run_here(capsys, *words)
    assert (found.status, found.out.splitlines()[1]) == (0, "num_rows_kept: 40")
    split = run_here(capsys, "do", "split", "--in", f"data={out}", "--out", str(project / "parts"), "--json")
    assert split.json["stages"][0]["metrics"]["num_rows_in"] == 40
    assert run_here(capsys, "verify", str(project / "parts")).status == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["split"], "the output folder is missing"),
        (["split", "--in", "data", "--out", "x"], "cannot read the input 'data'"),
        (["split", "--in", "data=nowhere", "--out", "x"], "there is no such file or folder"),
        (["split", "--out", "x"], "the recipe has 1 problem (baihua do split)"),
        (["split", "--odd"], "No such option: --odd"),
    ],
)
def test_a_mistake_in_do_is_one_block_and_status_two(capsys: Capture, words: list[str], message: str) -> None:
    found = run_here(capsys, "do", *words)
    assert found.status == 2
    assert found.errors()[0].startswith(f"error: {message}")


def test_show_tells_what_made_a_run(built: Path, capsys: Capture) -> None:
    lines = run_here(capsys, "show", "small", "--runs", str(built / "runs")).out.splitlines()
    assert lines[0].startswith("import_data ")
    assert "talks.jsonl" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["split", "data:"]
    as_json = run_here(capsys, "show", "small", "--runs", str(built / "runs"), "--json").json
    assert as_json["artifacts"][1]["inputs"]["data"]["stage"] == "import_data"


def test_show_finds_the_artifact_that_a_path_is_inside_of(built: Path, capsys: Capture) -> None:
    found = run_here(capsys, "show", str(built / "runs" / "small" / "parts" / "train"))
    assert found.out.startswith("split ")


def test_show_rows_prints_conversations_as_they_are_trained(built: Path, capsys: Capture) -> None:
    raw = str(built / "runs" / "small" / "raw")
    assert "<|im_start|>assistant\n第0个回答<|im_end|>" in run_here(capsys, "show", raw, "--rows", "1").out
    assert "### Response:\n第0个回答" in run_here(capsys, "show", raw, "--rows", "1", "--template", "alpaca").out
    rows = run_here(capsys, "show", raw, "--rows", "2", "--json").json["rows"]
    assert [row["messages"][1]["content"] for row in rows] == ["第0个回答", "第1个回答"]


def test_show_dropped_prints_the_rows_of_a_reason(built: Path, capsys: Capture) -> None:
    raw = str(built / "runs" / "small" / "raw")
    assert "talks.jsonl:41 " in run_here(capsys, "show", raw, "--dropped", "no_assistant_turn").out
    found = run_here(capsys, "show", raw, "--dropped", "no_assistant_turn", "--json").json["dropped"]
    assert [row["line"] for row in found] == [41]


@pytest.mark.parametrize(
    ("part", "words", "message"),
    [
        ("raw", ["--dropped", "no_assistant"], "unknown reason 'no_assistant'; did you mean 'no_assistant_turn'?"),
        ("parts", ["--dropped", "x"], "this artifact dropped nothing"),
        ("parts", ["--rows", "1"], "no conversations or documents found"),
        ("raw", ["--rows", "1", "--template", "chatmll"], "unknown template 'chatmll'; did you mean 'chatml'?"),
        ("", ["--runs", "elsewhere"], "neither a run nor an artifact"),
    ],
)
def test_a_mistake_in_show_is_one_block(
    built: Path, capsys: Capture, part: str, words: list[str], message: str
) -> None:
    path = built / "runs" / "small" / part if part else built
    found = run_here(capsys, "show", str(path), *words)
    assert found.status == 2
    assert found.errors()[0].startswith(f"error: {message}")


def test_verify_finds_a_flipped_byte(built: Path, capsys: Capture) -> None:
    words = ("verify", "small", "--runs", str(built / "runs"))
    assert run_here(capsys, *words).status == 0
    file = next((built / "runs" / "store").glob("split-*/train/conversations.parquet"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    found, as_json = run_here(capsys, *words), run_here(capsys, *words, "--json")
    assert (found.status, as_json.status, as_json.json["ok"]) == (1, 1, False)
    assert "train/conversations.parquet: " in found.out
    assert "the manifest has" in found.out


def test_clean_says_what_would_go_and_removes_it_only_when_told(built: Path, capsys: Capture) -> None:
    runs = ("--runs", str(built / "runs"))
    assert run_here(capsys, "clean", "--keep", "small", *runs, "--json").json == {"removed": False, "folders": []}
    found = run_here(capsys, "clean", *runs)
    assert "would remove 3 folders" in found.out
    assert run_here(capsys, "verify", "small", *runs).status == 0
    assert "removed 3 folders" in run_here(capsys, "clean", *runs, "--yes").out
    assert [path.name for path in (built / "runs" / "store").iterdir() if path.is_dir()] == []


def test_doctor_lists_what_it_checked_and_how_to_fix_what_failed(tmp_path: Path, capsys: Capture) -> None:
    found = run_here(capsys, "doctor", "--runs", str(tmp_path), "--json")
    assert found.status == 0
    checks = {check["name"]: check for check in found.json["checks"]}
    assert {"Python", "memory", "disk", "torch", "runs folder"} <= checks.keys()
    assert all(check["is_ok"] or check["fix"] for check in checks.values())
    assert "Python" in run_here(capsys, "doctor", "--runs", str(tmp_path)).out


def test_an_extension_stage_runs_from_the_command_line(tmp_path: Path) -> None:
    folder = fakes.write_extensions(tmp_path / "mine", fakes.STAGES)
    found = run_apart("do", "note", "text=hi", "--out", "out", "--extensions", str(folder), "--json", cwd=tmp_path)
    assert found.json["stages"][0]["metrics"] == {"num_chars": 2}


def test_an_interrupted_command_leaves_130_and_no_traceback(tmp_path: Path) -> None:
    folder = fakes.write_extensions(tmp_path / "mine", {"stages/stop.py": INTERRUPTED})
    found = run_apart("do", "stop", "--out", "out", "--extensions", str(folder), cwd=tmp_path)
    assert (found.status, found.err) == (130, "interrupted; run the same command again to resume\n")


def test_an_internal_error_is_one_block_too(tmp_path: Path) -> None:
    stage = INTERRUPTED.replace("raise KeyboardInterrupt", "return {}['missing']")
    folder = fakes.write_extensions(tmp_path / "mine", {"stages/stop.py": stage})
    found = run_apart("do", "stop", "--out", "out", "--extensions", str(folder), cwd=tmp_path)
    assert found.status == 1
    assert found.errors()[0] == "error: internal error: 'missing'"
    assert "--debug" in found.errors()[2]


def test_a_wrong_recipe_lists_its_problems_in_the_json_error(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "bad.yaml").write_text("name: bad\nstages: {}\n", encoding="utf-8")
    found = run_here(capsys, "run", str(tmp_path / "bad.yaml"), "--json")
    assert [problem["where"] for problem in found.json["error"]["problems"]] == ["stages"]


def test_a_failure_is_status_one(tmp_path: Path) -> None:
    folder = fakes.write_extensions(tmp_path / "mine", fakes.STAGES)
    (tmp_path / "trap").touch()
    found = run_apart("do", "note", "text=x", "trap=trap", "--out", "out", "--extensions", str(folder), cwd=tmp_path)
    assert (found.status, found.errors()) == (1, ["error: caught in the trap"])
    assert not (tmp_path / "out").exists()


def test_with_json_an_error_is_one_json_object_too(tmp_path: Path, capsys: Capture) -> None:
    found = run_here(capsys, "check", str(tmp_path / "no.yaml"), "--json")
    assert found.status == 2
    assert found.json == {
        "error": {"what": "there is no such recipe", "where": str(tmp_path / "no.yaml"), "fix": "check the path"}
    }
    usage = run_here(capsys, "do", "--odd", "--json")
    assert (usage.status, "No such option" in usage.json["error"]["what"]) == (2, True)


def test_debug_adds_the_traceback(tmp_path: Path, capsys: Capture) -> None:
    found = run_here(capsys, "check", str(tmp_path / "no.yaml"), "--debug")
    assert found.status == 2
    assert "Traceback" in found.err


def test_what_the_system_refuses_is_one_block_and_status_one(project: Path, capsys: Capture) -> None:
    (project / "runs").write_text("a file where a folder should be", encoding="utf-8")
    found = run_here(capsys, "run", str(project / "recipe.yaml"), "--runs", str(project / "runs"))
    assert found.status == 1
    assert found.errors()[0] == "error: operating system error: Not a directory"


def test_chat_with_something_that_is_no_model_is_refused(tmp_path: Path, capsys: Capture) -> None:
    found = run_here(capsys, "chat", str(tmp_path), "--runs", str(tmp_path))
    assert found.status == 2
    assert found.errors()[0] == "error: not a chat model: a folder without config.json"


def test_the_module_and_the_command_are_the_same(tmp_path: Path) -> None:
    found: Outcome = run_apart("check", "demo", "--json", cwd=tmp_path)
    assert (found.status, json.loads(found.out)["ok"]) == (0, True)
