"""The stage from rows to an adapter or a model."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
from cli_runs import run_here
from conversations import make_rows
from oracles import load_adapted
from pydantic import ValidationError
from trainings import read_metrics

from baihua.core.config import identifying
from baihua.core.errors import InputError
from baihua.data.rows import write_rows
from baihua.model.load import load_model
from baihua.stages.tune import INPUTS, Config, run
from baihua.train.loop import METRICS


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    write_rows(make_rows(10), tmp_path / "data")
    write_rows(make_rows(4, seed=1), tmp_path / "heldout")
    return {"model": tiny.make(tmp_path / "tiny"), "data": tmp_path / "data", "heldout": tmp_path / "heldout"}


def tune(inputs: dict[str, Path], out: Path, **fields: Any) -> dict[str, Any]:
    """Run the stage in float32, quietly."""
    config = {"precision": "float32", "examples": {"num_shown": 0}, "max_steps": 2} | fields
    return run(Config.model_validate(config), inputs, out)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_leaves_the_result_and_its_figures_but_no_checkpoints(
    inputs: dict[str, Path], tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config.model_validate({"method": method, "num_train_epochs": 1.5, "template": "alpaca"})
    figures = run(config, inputs, tmp_path / "out")
    assert figures["num_steps"] == 2
    assert figures.keys() >= {
        *("num_tokens", "num_target_tokens", "tokens_per_second", "chars_per_second", "peak_memory_bytes", "mfu"),
        *("eval_bits_per_char", "num_trainable", "precision", "num_threads", "num_processes"),
    }
    assert 0 < figures["mfu"] < 1
    assert "### Response:" in (tmp_path / "out" / "chat_template.jinja").read_text()
    assert (tmp_path / "out" / METRICS).is_file()
    assert not (tmp_path / "out" / "checkpoints").exists()
    assert "example 3" in capsys.readouterr().err
    if method == "full":
        load_model(tmp_path / "out")
    else:
        load_adapted(inputs["model"], tmp_path / "out")


def test_the_figures_of_the_data_and_of_the_training_add_up(inputs: dict[str, Path], tmp_path: Path) -> None:
    write_rows([*make_rows(10), *make_rows(2, num_turns=5, seed=3)], inputs["data"])
    figures = tune(inputs, tmp_path / "out", max_length=100, max_steps=None, num_train_epochs=2)
    assert figures["num_rows_in"] == figures["num_rows_kept"] == 12
    assert (figures["num_rows_dropped"], figures["num_rows_split"]) == ({}, 2)
    assert figures["num_examples"] > 12
    assert figures["longest_tokens"] <= 100
    # Two epochs read everything twice.
    assert figures["num_tokens"] == 2 * figures["num_data_tokens"]
    assert figures["num_target_tokens"] == pytest.approx(2 * figures["target_share"] * figures["num_data_tokens"])
    assert read_metrics(tmp_path / "out")[-2]["num_tokens"] == figures["num_tokens"]


def test_the_same_config_gives_the_same_bytes(inputs: dict[str, Path], tmp_path: Path) -> None:
    config = Config.model_validate({"method": {"kind": "lora", "dropout": 0.1}, "max_steps": 2})
    for name in ("a", "b"):
        run(config, inputs, tmp_path / name)
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_without_heldout_rows_there_is_no_such_figure(inputs: dict[str, Path], tmp_path: Path) -> None:
    del inputs["heldout"]
    assert not INPUTS["heldout"].is_required
    assert "eval_bits_per_char" not in tune(inputs, tmp_path / "out")


def test_examples_are_kept_in_the_cache_of_this_user(inputs: dict[str, Path], tmp_path: Path, cache: Path) -> None:
    before = set((cache / "examples").glob("*"))
    tune(inputs, tmp_path / "a")
    made = set((cache / "examples").glob("*")) - before
    tune(inputs, tmp_path / "b", learning_rate=1e-3)
    assert len(made) <= 2
    assert set((cache / "examples").glob("*")) == before | made


def test_what_is_learnt_changes_with_train_on(inputs: dict[str, Path], tmp_path: Path) -> None:
    write_rows(make_rows(10, num_turns=3), inputs["data"])
    shares = {
        train_on: tune(inputs, tmp_path / train_on, examples={"num_shown": 0, "train_on": train_on})["target_share"]
        for train_on in ("last_answer", "answers", "everything")
    }
    assert 0 < shares["last_answer"] < shares["answers"] < shares["everything"] < 1


def test_a_batch_that_holds_no_example_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        tune(inputs, tmp_path / "out", max_length=200, batches={"num_tokens_per_batch": 199})
    assert error.value.what == "a batch of 199 tokens cannot hold an example of 200"
    assert error.value.where == "batches.num_tokens_per_batch"
    assert error.value.fix == "raise it to at least max_length, or lower max_length"


def test_the_size_of_batches_changes_the_last_bits_only(inputs: dict[str, Path], tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    states = []
    for size in (200, 5000):
        tune(inputs, tmp_path / str(size), max_length=200, batches={"num_tokens_per_batch": size})
        states.append(load_file(tmp_path / str(size) / "adapter_model.safetensors"))
    for name, weight in states[0].items():
        torch.testing.assert_close(states[1][name], weight, rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("swanlab") is not None, reason="swanlab is installed")
def test_a_tracker_that_is_missing_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    nothing = {"model": tmp_path / "none", "data": tmp_path / "none"}
    with pytest.raises(InputError, match=r"the tracker 'swanlab' is not installed"):
        tune(nothing, tmp_path / "out", running={"trackers": ["swanlab"]})


HOW = {
    "batches": {"num_tokens_per_batch": 4096},
    "checkpoints": {"save_steps": 7},
    "examples": {"num_shown": 0},
    "running": {
        "parallel": "fsdp",
        "gradient_checkpointing": True,
        "compile": True,
        "trackers": ["wandb"],
    },
}
WHAT = [
    {"seed": 1},
    {"max_length": 512},
    {"batches": {"num_rows_per_step": 3}},
    {"batches": {"num_tokens_per_step": 999}},
    {"examples": {"train_on": "everything"}},
    {"examples": {"over_long": "drop"}},
    {"checkpoints": {"keep_best": True}},
    {"optimizer": {"kind": "adamw_8bit"}},
    {"schedule": {"kind": "linear"}},
]


@pytest.mark.parametrize("group", HOW)
def test_how_the_work_is_done_is_not_part_of_the_identity(group: str) -> None:
    assert identifying(Config.model_validate({group: HOW[group]})) == identifying(Config())


@pytest.mark.parametrize("change", WHAT, ids=str)
def test_what_changes_the_result_is(change: dict[str, Any]) -> None:
    assert identifying(Config.model_validate(change)) != identifying(Config())


def test_an_unknown_template_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValidationError, match=r"unknown template 'alpaka'; did you mean 'alpaca'\?"):
        Config(template="alpaka")


@pytest.mark.parametrize(
    "wrong",
    [
        {"checkpoints": {"save_steps": 0}},
        {"examples": {"num_shown": -1}},
        {"batches": {"num_tokens_per_batch": 0}},
        {"batches": {"num_rows_per_step": 0}},
        {"optimizer": {"max_grad_norm": 0}},
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="Input should be greater than"):
        Config.model_validate(wrong)


@pytest.mark.parametrize("key", ["per_device_train_batch_size", "gradient_accumulation_steps", "save_steps"])
def test_a_key_of_an_older_recipe_is_named(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    stages = {
        "base": {"stage": "import_model", "source": str(tiny.make(tmp_path / "tiny"))},
        "data": {"stage": "import_data", "files": ["starter:open_qa"]},
        "tune": {"stage": "tune", "inputs": {"model": "base", "data": "data"}, key: 4},
    }
    (tmp_path / "old.yaml").write_text(yaml.safe_dump({"name": "old", "stages": stages}), encoding="utf-8")
    found = run_here(capsys, "run", str(tmp_path / "old.yaml"), "--runs", str(tmp_path / "runs"), "--dry-run")
    assert found.status == 2
    block = "\n".join(found.errors())
    assert re.search(rf"stages\.tune\.{key}: unknown key", block)


def test_a_recipe_is_checked_without_torch() -> None:
    code = (
        "import sys; from baihua.stages import bits, merge, tune; tune.Config.model_validate({'method': 'full'});"
        "print(sorted({'torch', 'peft', 'transformers', 'accelerate'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


TWO_PROCESSES = """
import sys
from pathlib import Path
from baihua.stages.tune import Config, run
folder = Path(sys.argv[1])
config = Config(method={"kind": "full"}, batches={"num_rows_per_step": 4}, max_steps=3, precision="float32",
                examples={"num_shown": 0})
run(config, {"model": folder / "tiny", "data": folder / "data"}, folder / sys.argv[2])
"""


@pytest.mark.extras
def test_two_processes_train_like_one(inputs: dict[str, Path], tmp_path: Path) -> None:
    import torch

    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29555"]
    subprocess.run([*command, str(script), str(tmp_path), "two"], check=True, timeout=180)
    del inputs["heldout"]
    tune(inputs, tmp_path / "one", method="full", batches={"num_rows_per_step": 4}, max_steps=3)
    wanted, found = load_model(tmp_path / "one").state_dict(), load_model(tmp_path / "two").state_dict()
    for name, weight in wanted.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-4)
    lines = [(tmp_path / name / METRICS).read_text().splitlines() for name in ("one", "two")]
    counts = [[json.loads(line)["num_tokens"] for line in part] for part in lines]
    assert counts[0] == counts[1]
