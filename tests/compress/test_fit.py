"""The memory that a model needs to answer, in the output of `doctor --fit` and `check`."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import fakes
import pytest
from cli_runs import run_apart, run_here

from baihua.compress.export import write_levels
from baihua.compress.fit import (
    GIB,
    HOSTS,
    Candidate,
    Host,
    Needed,
    best_fit,
    candidates_of,
    contexts,
    forecast,
    memory_of,
    this_machine,
)
from baihua.compress.levels import LEVELS, choose_types
from baihua.modelfiles.description import Description, describe, describe_shape
from baihua.modelfiles.gguf_header import read_model_header
from baihua.modelfiles.shape import Shape, shape_of_header
from baihua.train.plan.machines import known_shape

Capture = pytest.CaptureFixture[str]
LLAMA_3_8B: dict[str, Any] = {
    "num_layers": 32,
    "num_heads": 32,
    "num_kv_heads": 8,
    "head_dim": 128,
    "width": 4096,
    "mlp_width": 14336,
    "num_tokens": 128256,
    "context_length": 4096,
    "is_tied": False,
}


def make(**changes: Any) -> Description:
    """A Llama that differs from Llama 3 8B in some widths."""
    return describe_shape(Shape(**LLAMA_3_8B | changes))


def memory(description: Description, level: str, num_ctx: int, num_slots: int = 1) -> Needed:
    return memory_of(description.shape, choose_types(description, level), num_ctx, num_slots)


@pytest.fixture(scope="module")
def llama() -> Description:
    """The shape of Llama 3 8B."""
    return make()


@pytest.fixture(scope="module")
def levels(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as f32, f16 and q8_0; read only."""
    folder = tmp_path_factory.mktemp("levels")
    write_levels(tiny_folder, folder, ["f32", "q8_0"], num_threads=1)
    return folder


@pytest.mark.parametrize("level", ["f32", "f16", "q8_0"])
def test_weights_are_those_of_the_file_that_the_level_becomes(level: str, tiny_folder: Path, levels: Path) -> None:
    header = read_model_header(levels / f"model-{level}.gguf")
    wanted = memory_of(shape_of_header(header), header.tensors, 512)
    assert memory(describe(tiny_folder), level, 512) == wanted
    assert wanted.weights == sum(tensor.num_bytes for tensor in header.tensors)


def test_the_cache_of_llama_3_is_128_kib_a_token(llama: Description) -> None:
    # 2 x 32 layers x 8 heads x 128 numbers x 2 bytes, as its makers' grouped attention has it.
    assert memory(llama, "q8_0", 8192).kv_cache == 8192 * 128 * 1024
    assert memory(llama, "q8_0", 8192, num_slots=4).kv_cache == 4 * memory(llama, "q8_0", 8192).kv_cache


def test_working_memory_is_what_llama_cpp_logs() -> None:
    # llama.cpp's log (xllamacpp 2026.10) for 512-token pieces with logits of one token, in MiB.
    for (width, mlp_width, num_tokens), num_ctx, wanted in [
        ((384, 1024, 32768), 512, 10.27),
        ((576, 1536, 49152), 8192, 22.64),
        ((960, 2560, 49152), 2048, 26.39),
        ((2048, 5632, 32000), 2048, 55.02),
        ((896, 2432, 151936), 512, 23.52),
    ]:
        sizes = {"width": width, "mlp_width": mlp_width, "num_tokens": num_tokens}
        described = make(num_heads=2, num_kv_heads=1, head_dim=width // 2, **sizes)
        logits = 4 * num_tokens
        assert memory(described, "f16", num_ctx).working - logits == pytest.approx(wanted * 2**20, rel=0.003)


def test_attention_that_is_wider_than_the_mlp_counts() -> None:
    # As above, 2,048 tokens of context: 32 heads of 128 beside an MLP of 2,048, with 32 and with 8 heads of keys.
    for num_kv_heads, wanted in [(32, 54.02), (8, 38.02)]:
        described = make(width=2048, mlp_width=2048, num_tokens=32000, num_kv_heads=num_kv_heads)
        ratio = (memory(described, "f16", 2048).working - 4 * 32000) / (wanted * 2**20)
        assert 0.999 < ratio < 1.12


def test_parts_add_up() -> None:
    needed = Needed(weights=1, kv_cache=10, working=100, program=1000)
    assert needed.total == 1111 == sum(asdict(needed).values())


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.5, "yes"), (0.9, "yes"), (0.95, "tight"), (1.0, "tight"), (1.1, "no")]
)
def test_what_only_just_fits_is_tight(share: float, verdict: str) -> None:
    assert Host("a", 5 * GIB, GIB, "a test").verdict(int(share * 4 * GIB)) == verdict


def test_llama_3_8b_fits_where_people_run_it(llama: Description) -> None:
    pi4, pi8, laptop, gpu, _ = HOSTS
    assert pi4.verdict(memory(llama, "q2_k", 2048).total) == "no"
    assert pi8.verdict(memory(llama, "q4_k_m", 2048).total) == "yes"
    assert laptop.verdict(memory(llama, "q8_0", 2048).total) in ("yes", "tight")
    assert laptop.verdict(memory(llama, "f16", 2048).total) == "no"
    assert gpu.verdict(memory(llama, "f16", 8192).total) == "yes"


def test_contexts_end_where_the_model_ends(llama: Description) -> None:
    assert contexts(llama.shape) == [2048, 4096]
    assert contexts(llama.shape, 1000) == [1000]
    assert contexts(llama.shape, 99_999) == [4096]


def test_the_largest_that_surely_fits_is_named(llama: Description) -> None:
    rest = memory_of(llama.shape, [], 2048).total
    sized = {name: SimpleNamespace(num_bytes=size) for name, size in [("big", 20 * GIB), ("tight", 10 * GIB), ("s", 1)]}
    candidates = [Candidate(name, llama, cast(Any, [tensor])) for name, tensor in sized.items()]
    host = Host("a", 10 * GIB + rest, 0, "a test")
    assert best_fit(candidates, [2048], host) == (candidates[2], 2048)
    assert best_fit(candidates[:2], [2048], host) == (candidates[1], 2048)
    assert best_fit(candidates[:1], [2048], host) is None


def test_a_shorter_context_is_better_than_none(llama: Description) -> None:
    (candidate,) = candidates_of(llama, ["q4_0"])
    host = Host("a", candidate.needed(2048).total * 10 // 9 + 1, 0, "a test")
    assert best_fit([candidate], [2048, 8192, 131_072], host) == (candidate, 2048)


def test_this_machine_has_what_its_cgroup_leaves(tmp_path: Path) -> None:
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("300000000", encoding="ascii")
    (group / "memory.current").write_text("100000000", encoding="ascii")
    host = this_machine(tmp_path)
    assert (host.memory_bytes, host.usable_bytes) == (300_000_000, 200_000_000)
    assert host.verdict(200_000_001) == "no"


def test_a_shape_has_as_many_weights_as_the_model(llama: Description) -> None:
    assert llama.num_weights == pytest.approx(8.03e9, rel=0.001)
    assert llama.num_weights == pytest.approx(known_shape("llama-3-8b").num_weights, rel=0.001)


def test_doctor_shows_every_level_on_every_machine(tiny_folder: Path, capsys: Capture, tmp_path: Path) -> None:
    found = run_here(capsys, "doctor", "--fit", str(tiny_folder), "--json", "--runs", str(tmp_path))
    assert found.status == 0
    assert {row["level"] for row in found.json["levels"]} == set(LEVELS)
    names = [machine["name"] for machine in found.json["machines"]]
    assert len(names) == 6 and names[-1] == "this machine"
    for row in found.json["levels"]:
        assert [cell["num_ctx"] for cell in row["contexts"]] == [1024]
        for cell in row["contexts"]:
            assert list(cell["fits"]) == names and set(cell["fits"].values()) == {"yes"}
            assert cell["memory_bytes"] == sum(cell["memory"].values())
    # float32 would fit too, but predicts nothing that float16 does not.
    assert found.json["best"] == {"level": "f16", "num_ctx": 1024}


def test_doctor_shows_its_assumptions_and_ends_with_an_answer(
    tiny_folder: Path, capsys: Capture, tmp_path: Path
) -> None:
    words = ("doctor", "--fit", str(tiny_folder), "--context", "256", "--runs", str(tmp_path))
    lines = run_here(capsys, *words).out.splitlines()
    assert "context of 256 tokens" in lines
    assert any(line.startswith("laptop 16 GB: ") and "6 GiB" in line for line in lines)
    assert lines[-1].startswith("largest that fits this machine: f16 with a context of 256 tokens")
    longer = run_here(capsys, "doctor", "--fit", str(tiny_folder), "--context", "9999", "--runs", str(tmp_path)).out
    assert "context is shorter than 9,999 tokens; showing 1,024" in longer


def test_a_quantized_file_is_looked_at_as_it_is(levels: Path, capsys: Capture) -> None:
    one = run_here(capsys, "doctor", "--fit", str(levels / "model-q8_0.gguf"), "--json")
    assert [row["level"] for row in one.json["levels"]] == ["model-q8_0"]
    all_three = run_here(capsys, "doctor", "--fit", str(levels), "--json")
    assert [row["level"] for row in all_three.json["levels"]] == ["model-f32", "model-f16", "model-q8_0"]
    could_be = run_here(capsys, "doctor", "--fit", str(levels / "model-f16.gguf"), "--json")
    assert {row["level"] for row in could_be.json["levels"]} == set(LEVELS)


def test_the_error_without_a_model_names_what_would_be_one(capsys: Capture, tmp_path: Path) -> None:
    what, where, fix = run_here(capsys, "doctor", "--fit", str(tmp_path)).errors()
    assert what == "error: no model found"
    assert str(tmp_path) in where
    assert "config.json" in fix and ".gguf" in fix


def test_fit_needs_no_torch() -> None:
    code = "import sys, baihua.cli.views.fit; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_forecast_of_a_model_is_what_its_files_take(tiny_folder: Path, levels: Path) -> None:
    found = forecast(["q8_0"], tiny_folder)
    sizes = sum((levels / f"model-{level}.gguf").stat().st_size for level in ("f16", "q8_0"))
    # A part of so small a file is its vocabulary and chat template.
    assert found["disk_bytes"] == pytest.approx(sizes, rel=0.1)
    assert [line.split(":")[0] for line in found["assumptions"]] == ["f16", "q8_0"]
    assert "memory_bytes" not in found, "the memory of the writing was not measured"


def test_the_forecast_of_a_model_that_is_not_there_is_unknown() -> None:
    assert "--assume model=NAME" in forecast(["q8_0"], None)["unknown"]
    assert forecast(["q8_0"], Shape(**LLAMA_3_8B))["disk_bytes"] == pytest.approx(16.07e9 + 8.54e9, rel=0.002)


STAGE = """
from baihua.core.config import Base

VERSION = 1
INPUTS = {}
OUTPUT = ("gguf",)


class Config(Base):
    "Nothing to set."


def run(config, inputs, out):
    "Never run here."


def estimate(config, inputs, assumed, machine):
    "Disk, and no memory."
    return {"disk_bytes": 2_000_000_000, "assumptions": ["q8_0: runs in 3 GB"]}
"""


def test_check_prints_a_stage_whose_disk_alone_is_known(tmp_path: Path, capsys: Capture) -> None:
    folder = fakes.write_extensions(tmp_path / "extensions", {"stages/shrink.py": STAGE})
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: a\nstages:\n  small: {stage: shrink}\n", encoding="utf-8")
    words = ("check", str(recipe), "--machine", "rtx4090", "--extensions", str(folder))
    try:
        text = run_here(capsys, *words).out
    finally:
        fakes.take_back(folder)
    assert "  disk    2.00 GB\n  assumed q8_0: runs in 3 GB" in text
    assert "memory" not in text


def test_help_names_the_model(tmp_path: Path) -> None:
    assert "--fit" in run_apart("doctor", "--help", cwd=tmp_path).out


def test_check_shows_the_disk_that_quantize_will_need(tmp_path: Path, capsys: Capture, tiny_folder: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    small = "{stage: quantize, inputs: {model: base}, levels: [q4_k_m]}"
    recipe.write_text(
        f"name: x\nstages:\n  base: {{stage: import_model, source: {tiny_folder}}}\n  small: {small}\n",
        encoding="utf-8",
    )
    words = ("check", str(recipe), "--runs", str(tmp_path / "runs"), "--json")
    assert run_here(capsys, *words).json["stages"][-1]["disk_bytes"] is None
    found = run_here(capsys, *words, "--assume", "model=llama-7b").json["stages"][-1]
    # A published q4_k_m of that shape has 4,081,004,224 bytes, and there is an f16 file beside it.
    assert found["disk_bytes"] == pytest.approx(4_081_004_224 + 2 * 6_738_415_616, rel=0.001)
