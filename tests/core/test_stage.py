"""A stage is made once: identity, reuse, and nothing half-written that looks whole."""

import errno
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from baihua.core.artifact import MANIFEST, differences, part_of, read_artifact
from baihua.core.errors import InputError, RunError
from baihua.core.stage import Given, _FullDisk, find_stage, identity, run_into, run_stage

pytestmark = pytest.mark.usefixtures("stages")


def note(**fields: Any) -> Any:
    return find_stage("note").Config.model_validate({"text": "x"} | fields)


def id_of(inputs: dict[str, Given] | None = None, **fields: Any) -> str:
    return identity("note", note(**fields), inputs or {})


@pytest.mark.parametrize("fields", [{"text": "y"}, {"seed": 1}, {"inner": {"depth": 2}}])
def test_what_can_change_the_result_changes_the_identity(fields: dict[str, Any]) -> None:
    assert id_of(**fields) != id_of()


@pytest.mark.parametrize("fields", [{"threads": 8}, {"trap": "somewhere"}, {"inner": {"label": "a"}}])
def test_how_the_work_is_done_does_not(fields: dict[str, Any]) -> None:
    assert id_of(**fields) == id_of()


def test_a_file_counts_by_its_bytes_never_by_its_path(tmp_path: Path) -> None:
    for name, text in {"a": "same", "b": "same", "c": "other"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    a, b, c = (id_of(file=str(tmp_path / name)) for name in "abc")
    assert a == b != c


def test_an_input_counts_by_identity_and_part_never_by_place() -> None:
    here = id_of({"before": Given(Path("here"), "1" * 64, "train", "raw")})
    assert id_of({"before": Given(Path("there"), "1" * 64, "train", "other")}) == here
    assert id_of({"before": Given(Path("here"), "2" * 64, "train", "raw")}) != here
    assert id_of({"before": Given(Path("here"), "1" * 64, "heldout", "raw")}) != here


def test_the_same_stage_is_reused_and_its_folder_carries_its_identity(tmp_path: Path) -> None:
    first, second = (run_stage("note", note(threads=n), {}, tmp_path) for n in (1, 2))
    assert (first.is_reused, second.is_reused) == (False, True)
    assert first.artifact.folder == tmp_path / f"note-{id_of()[:16]}"
    assert second.artifact.manifest == first.artifact.manifest


def test_the_manifest_says_what_made_it(tmp_path: Path) -> None:
    before = run_stage("note", note(text="a"), {}, tmp_path).artifact
    given = {"before": Given(before.folder, before.id, "", "first")}
    manifest = run_stage("note", note(text="b", threads=3), given, tmp_path).artifact.manifest
    assert manifest["schema"] == 1
    assert manifest["inputs"] == {"before": {"id": before.id, "part": "", "name": "first"}}
    assert manifest["config"]["threads"] == 3
    assert manifest["metrics"] == {"num_chars": 2}
    assert [entry["path"] for entry in manifest["files"]] == ["note.txt", "parts/note.txt"]
    assert "baihua" in manifest["versions"]


def test_what_was_interrupted_is_never_taken_for_complete_and_goes_on(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.touch()
    store = tmp_path / "store"
    with pytest.raises(RunError, match="caught in the trap"):
        run_stage("note", note(trap=str(trap)), {}, store)
    assert [folder.name for folder in store.iterdir() if folder.is_dir()] == [f"note-{id_of()[:16]}.partial"]
    assert not list(store.rglob(MANIFEST))
    trap.unlink()
    result = run_stage("note", note(trap=str(trap)), {}, store)
    assert not result.is_reused
    assert (result.artifact.folder / "note.txt").read_text(encoding="utf-8") == "x"


def test_a_kill_while_the_manifest_is_written_leaves_nothing_complete(tmp_path: Path) -> None:
    partial = tmp_path / f"note-{id_of()[:16]}.partial"
    partial.mkdir()
    (partial / f"{MANIFEST}.partial").write_text('{"schema": 1', encoding="utf-8")
    artifact = run_stage("note", note(), {}, tmp_path).artifact
    assert differences(artifact) == []


def test_a_complete_partial_folder_is_finished_under_its_name(tmp_path: Path) -> None:
    folder = run_stage("note", note(), {}, tmp_path).artifact.folder
    folder.rename(folder.with_name(folder.name + ".partial"))
    assert run_stage("note", note(), {}, tmp_path).artifact.folder == folder


def test_a_second_run_waits_for_the_lock_then_reuses(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / f"note-{id_of()[:16]}.lock")
    lock.acquire()
    results: list[bool] = []
    waiting = threading.Thread(target=lambda: results.append(run_stage("note", note(), {}, tmp_path).is_reused))
    waiting.start()
    time.sleep(0.3)
    assert results == []
    run_into("note", note(), {}, tmp_path / f"note-{id_of()[:16]}")
    lock.release()
    waiting.join(timeout=10)
    assert results == [True]


def test_a_stage_runs_into_a_new_or_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        assert run_into("note", note(), {}, tmp_path / name).id == id_of()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new"]


def test_a_folder_with_something_in_it_is_never_written_into(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    for out in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(InputError, match=r"the output folder is not empty\n.*\n  fix:   name another --out"):
            run_into("note", note(), {}, out)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "x"),
        OSError(errno.EDQUOT, "x"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_told_as_such_whatever_the_library_raises(error: Exception) -> None:
    with (
        pytest.raises(RunError, match=r"the disk is full: stage 'tune' could not write.*\n  where: out\n  fix:   free"),
        _FullDisk("tune", Path("out")),
    ):
        raise error


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(PermissionError), _FullDisk("tune", Path("out")):
        raise PermissionError(errno.EACCES, "x")


def test_a_part_is_a_subfolder_or_the_stem_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "model-q8_0.gguf").touch()
    assert part_of(tmp_path, "train") == tmp_path / "train"
    assert part_of(tmp_path, "q8_0") == part_of(tmp_path, "model-q8_0") == tmp_path / "model-q8_0.gguf"
    with pytest.raises(InputError, match=r"no part 'heldout' here; the parts are: train, model-q8_0\n  where: "):
        part_of(tmp_path, "heldout")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "not a finished artifact: it has no manifest.json"),
        ("{", "manifest is not valid JSON"),
        ('{"schema": 99}', "schema 99, this version reads 1"),
    ],
)
def test_a_folder_without_a_good_manifest_is_no_artifact(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_artifact(tmp_path)


def test_a_changed_missing_or_added_file_is_found(tmp_path: Path) -> None:
    artifact = run_stage("note", note(), {}, tmp_path).artifact
    assert differences(artifact) == []
    (artifact.folder / "note.txt").write_text("y", encoding="utf-8")
    (artifact.folder / "parts" / "note.txt").rename(artifact.folder / "added.txt")
    found = [line.partition(":")[0] for line in differences(artifact)]
    assert found == ["added.txt", "note.txt", "parts/note.txt"]
    assert json.loads((artifact.folder / MANIFEST).read_text(encoding="utf-8")) == artifact.manifest
