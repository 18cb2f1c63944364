"""One recipe from raw text to a chat reply, through the real command line."""

import subprocess
import sys
from pathlib import Path

import pytest
from cli_runs import run_apart
from tiny_recipe import REPLY, write_recipe


@pytest.fixture(scope="module")
def built(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe, built once."""
    folder = tmp_path_factory.mktemp("whole")
    found = run_apart("run", str(write_recipe(folder, tiny_folder)), "--json", cwd=folder)
    assert found.status == 0, found.err
    assert [stage["reused"] for stage in found.json["stages"]] == [False] * 8
    return folder


def test_the_chat_says_what_was_taught(built: Path) -> None:
    command = [sys.executable, "-m", "baihua", "chat", "tiny", "--temperature", "0", "--max-tokens", "16"]
    found = subprocess.run(command, cwd=built, input="你是谁？\n", capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert REPLY in found.stdout


def test_an_unchanged_recipe_reuses_every_stage(built: Path) -> None:
    found = run_apart("run", "tiny.yaml", "--json", cwd=built)
    assert [stage["reused"] for stage in found.json["stages"]] == [True] * 8


def test_another_number_remakes_only_what_depends_on_it(built: Path) -> None:
    found = run_apart("run", "tiny.yaml", "stages.answers.max_tokens=8", "--dry-run", "--json", cwd=built)
    assert [stage["name"] for stage in found.json["stages"] if not stage["reused"]] == ["answers"]


def test_the_figures_have_the_names_that_tools_rely_on(built: Path) -> None:
    stages = {
        stage["name"]: stage["metrics"] for stage in run_apart("run", "tiny.yaml", "--json", cwd=built).json["stages"]
    }
    assert stages["tune"].keys() >= {
        "num_steps",
        "num_tokens",
        "num_target_tokens",
        "tokens_per_second",
        "chars_per_second",
        "peak_memory_bytes",
        "eval_bits_per_char",
    }
    assert stages["whole"].keys() >= {"mean_kl", "same_top_share", "max_abs_logit_difference"}
    assert stages["bits"].keys() >= {"bits_per_char", "bits_per_byte", "num_chars"}
    assert stages["small"]["levels"][0].keys() >= {"level", "file", "file_bytes", "bits_per_weight"}


def test_the_report_and_the_lineage_reach_down_to_the_file(built: Path) -> None:
    assert "我是白话" in (built / "runs" / "tiny" / "report.html").read_text(encoding="utf-8")
    shown = run_apart("show", "runs/tiny/small", cwd=built)
    assert "raw.jsonl" in shown.out


def test_every_artifact_agrees_with_its_manifest(built: Path) -> None:
    assert run_apart("verify", "tiny", cwd=built).status == 0
