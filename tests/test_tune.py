"""The stage from rows to an adapter or a model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from baihua.core.config import identifying
from baihua.data.rows import write_rows
from baihua.model import tiny
from baihua.model.load import load_model
from baihua.model.merge import load_adapted
from baihua.stages.tune import INPUTS, Config, run
from baihua.train.loop import METRICS
from conversations import make_rows


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    write_rows(make_rows(10), tmp_path / "data")
    write_rows(make_rows(4, seed=1), tmp_path / "heldout")
    return {"model": tiny.make(tmp_path / "tiny"), "data": tmp_path / "data", "heldout": tmp_path / "heldout"}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_leaves_the_result_and_its_figures_but_no_checkpoints(
    inputs: dict[str, Path], tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config.model_validate({"method": method, "num_train_epochs": 1.5, "template": "alpaca"})
    figures = run(config, inputs, tmp_path / "out")
    assert figures["num_steps"] == 2
    assert (figures["num_rows_in"], figures["num_rows_kept"], figures["num_rows_dropped"]) == (10, 10, {})
    assert {"num_tokens", "num_target_tokens", "tokens_per_second", "chars_per_second", "peak_memory_bytes"} <= set(
        figures
    )
    assert {"eval_bits_per_char", "num_trainable", "precision", "num_threads"} <= figures.keys()
    assert "### Response:" in (tmp_path / "out" / "chat_template.jinja").read_text()
    assert (tmp_path / "out" / METRICS).is_file()
    assert not (tmp_path / "out" / "checkpoints").exists()
    assert "example 3" in capsys.readouterr().err
    if method == "full":
        load_model(tmp_path / "out")
    else:
        load_adapted(inputs["model"], tmp_path / "out")


def test_the_same_config_gives_the_same_bytes(inputs: dict[str, Path], tmp_path: Path) -> None:
    config = Config.model_validate({"method": {"kind": "lora", "dropout": 0.1}, "max_steps": 2})
    for name in ("a", "b"):
        run(config, inputs, tmp_path / name)
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_without_heldout_rows_there_is_no_such_figure(inputs: dict[str, Path], tmp_path: Path) -> None:
    del inputs["heldout"]
    assert not INPUTS["heldout"].is_needed
    assert "eval_bits_per_char" not in run(Config(max_steps=1), inputs, tmp_path / "out")


def test_how_often_to_save_or_show_is_not_part_of_the_identity() -> None:
    assert identifying(Config(save_steps=7, eval_steps=3, num_shown=0)) == identifying(Config())
    assert identifying(Config(seed=1)) != identifying(Config())


def test_an_unknown_template_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValidationError, match=r"unknown template 'alpaka'; did you mean 'alpaca'\?"):
        Config(template="alpaka")


def test_a_recipe_is_checked_without_torch() -> None:
    code = (
        "import sys; from baihua.stages import bits, merge, tune; tune.Config.model_validate({'method': 'full'});"
        "print(sorted({'torch', 'peft', 'transformers', 'accelerate'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


TWO_PROCESSES = """
import json, sys
from pathlib import Path
from baihua.stages.tune import Config, run
folder = Path(sys.argv[1])
config = Config(method={"kind": "full"}, per_device_train_batch_size=2, gradient_accumulation_steps=1, max_steps=3,
                num_shown=0, precision="float32")
run(config, {"model": folder / "tiny", "data": folder / "data"}, folder / sys.argv[2])
"""


@pytest.mark.extras
def test_two_processes_train_like_one_with_twice_the_batches(inputs: dict[str, Path], tmp_path: Path) -> None:
    import torch

    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29555"]
    subprocess.run([*command, str(script), str(tmp_path), "two"], check=True, timeout=180)
    one = Config.model_validate(
        {
            "method": "full",
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "max_steps": 3,
            "precision": "float32",
        }
    )
    run(one, {name: inputs[name] for name in ("model", "data")}, tmp_path / "one")
    wanted, found = load_model(tmp_path / "one").state_dict(), load_model(tmp_path / "two").state_dict()
    for name, weight in wanted.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-4)
    lines = [(tmp_path / name / METRICS).read_text().splitlines() for name in ("one", "two")]
    counts = [[json.loads(line)["num_tokens"] for line in part] for part in lines]
    assert counts[0] == counts[1]
