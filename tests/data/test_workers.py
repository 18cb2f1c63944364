"""Work in pieces: results in order, nothing repeated, errors of the work distinguished from dead workers."""

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from data_stages import import_files
from fakes import extend, take_back, write_lines
from guides import python_example

from baihua.core.errors import InputError, RunError
from baihua.data.workers import Work, WorkPiece, run_pieces


def note(*, out: Path, text: str, mark: str) -> dict[str, Any]:
    """Write a line; how often it was called is in the file's length."""
    with out.open("a", encoding="utf-8") as stream:
        stream.write(text + mark + "\n")
    return {"text": text + mark, "pid": os.getpid()}


def refuse(*, out: Path, text: str, mark: str) -> dict[str, Any]:
    """A row of the user that is wrong."""
    if text == "3":
        raise InputError("this row is wrong", where="a.jsonl:3", fix="correct it")
    return {}


def stumble(*, out: Path, text: str, mark: str) -> dict[str, Any]:
    """A bug."""
    return {"share": 1 / (int(text) - 3)}


def die_once(*, out: Path, text: str, mark: str) -> dict[str, Any]:
    """A worker that is killed from outside, the first time it comes to the third piece."""
    grave = out.with_name("died")
    if text == "3" and not grave.exists():
        grave.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return note(out=out, text=text, mark=mark)


def die(*, out: Path, text: str, mark: str) -> dict[str, Any]:
    """A piece that kills every worker."""
    if text == "3":
        os.kill(os.getpid(), signal.SIGKILL)
    return {}


def work(folder: Path, function: Work, cluster: str | None = None, *, count: int = 6) -> list[dict[str, Any]]:
    pieces = [WorkPiece(folder / f"{n:05}", {"text": str(n)}) for n in range(count)]
    return list(run_pieces(partial(function, mark="。"), pieces, label="test", cluster=cluster))


@pytest.fixture(autouse=True)
def _found_by_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


def test_results_come_in_order_from_other_processes(tmp_path: Path) -> None:
    results = work(tmp_path, note)
    assert [result["text"] for result in results] == [f"{n}。" for n in range(6)]
    assert os.getpid() not in {result["pid"] for result in results}


def test_one_piece_is_done_here(tmp_path: Path) -> None:
    assert [result["pid"] for result in work(tmp_path, note, count=1)] == [os.getpid()]


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    first = work(tmp_path, note)
    (tmp_path / "00002.json").unlink()
    (tmp_path / "00004.json").unlink()
    again = work(tmp_path, note)
    assert [result["text"] for result in again] == [result["text"] for result in first]
    lines = [len((tmp_path / f"{n:05}").read_text(encoding="utf-8").splitlines()) for n in range(6)]
    assert lines == [1, 1, 2, 1, 2, 1]


@pytest.mark.parametrize("count", [6, 4])
def test_a_users_error_is_raised_here(tmp_path: Path, count: int) -> None:
    with pytest.raises(InputError, match=r"this row is wrong\n  where: a\.jsonl:3\n  fix:   correct it"):
        work(tmp_path, refuse, count=count)


def test_a_bug_is_not_taken_for_a_dead_worker(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"internal error: ZeroDivisionError: .*\n  where: in a worker process"):
        work(tmp_path, stumble)


def test_a_killed_worker_costs_its_piece_only(tmp_path: Path) -> None:
    results = work(tmp_path, die_once)
    assert [result["text"] for result in results] == [f"{n}。" for n in range(6)]
    assert (tmp_path / "died").exists()


def test_a_piece_that_kills_every_worker_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"worker processes died 3 times in a row\n  where: .*00003\n  fix:   memory probably ran"
    ):
        work(tmp_path, die)
    assert (tmp_path / "00002.json").exists()


@pytest.mark.extras
@pytest.mark.parametrize("address", ["127.0.0.1:1", "no address", "ray://127.0.0.1:1", "localhost:port"])
def test_a_cluster_that_does_not_answer_is_an_error(tmp_path: Path, address: str) -> None:
    pytest.importorskip("ray", reason="Ray comes with the extra `cluster`")
    with pytest.raises(InputError, match=r"no Ray cluster answers: .*\n  where: --cluster .*\n  fix:   start one"):
        work(tmp_path, note, address)


def test_the_format_in_the_guide_works_in_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baihua.data.shards.NUM_SHARD_ROWS", 2)
    folder = extend(tmp_path / "mine", {"data/formats/pairs.py": python_example("data.md", '"pairs"')})
    try:
        file = write_lines(tmp_path / "a.jsonl", [*({"q": "问", "a": f"答{n}"} for n in range(5)), {"q": "问", "a": 6}])
        made = import_files(tmp_path, file)
        assert made.texts == [f"答{n}" for n in range(5)]
        assert made.reasons == [(6, "no_text")]
        assert made.figures["formats"] == {"pairs": 1}
    finally:
        take_back(folder)
