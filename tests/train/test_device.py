"""What there is to compute on. Apple's GPU is a name here: nothing was ever run on one."""

from pathlib import Path

import psutil
import pytest
import torch

from baihua.train.plan.device import choose_device, choose_precision, has_bfloat16, usable_memory_bytes

CPU, META, APPLE = (torch.device(name) for name in ("cpu", "meta", "mps"))


def test_the_device_is_the_accelerator_that_torch_names_else_the_cpu() -> None:
    found = choose_device()
    assert found.type == (torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu")


def test_auto_is_bfloat16_exactly_where_the_hardware_has_it() -> None:
    assert choose_precision("auto", CPU) == ("bfloat16" if has_bfloat16(CPU) else "float32")
    assert choose_precision("auto", META) == "float32"


@pytest.mark.parametrize("device", [CPU, META, APPLE])
def test_float32_is_float32_everywhere(device: torch.device, caplog: pytest.LogCaptureFixture) -> None:
    assert choose_precision("float32", device) == "float32"
    assert not caplog.text


@pytest.mark.parametrize("wanted", ["auto", "bfloat16"])
def test_an_apple_gpu_computes_in_bfloat16_without_a_warning(wanted: str, caplog: pytest.LogCaptureFixture) -> None:
    assert has_bfloat16(APPLE)
    assert choose_precision(wanted, APPLE) == "bfloat16"
    assert not caplog.text


def test_bfloat16_without_hardware_is_possible_but_warns(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_precision("bfloat16", META) == "bfloat16"
    assert (
        "this machine has no bfloat16 arithmetic: training will be slower than in float32 (silence: precision=auto)"
        in caplog.text
    )


def test_a_training_on_a_cpu_may_use_what_is_free_and_what_it_holds() -> None:
    held, free = psutil.Process().memory_info().rss, psutil.virtual_memory().available
    assert held < usable_memory_bytes(CPU) <= held + free + 1e9


def test_training_keeps_within_the_limit_of_a_container(tmp_path: Path) -> None:
    cgroup = tmp_path / "sys" / "fs" / "cgroup"
    cgroup.mkdir(parents=True)
    (cgroup / "memory.max").write_text("300000000\n", encoding="ascii")
    (cgroup / "memory.current").write_text("100000000\n", encoding="ascii")
    held = psutil.Process().memory_info().rss
    found = usable_memory_bytes(CPU, root=tmp_path)
    assert found == pytest.approx(200_000_000 + held, abs=50_000_000)
