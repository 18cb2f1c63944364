"""Replicas: what needs no Ray. With Ray, see test_serve_replicas.py."""

import pytest

from baihua.chat.types import Piece, Usage
from baihua.core.errors import InputError
from baihua.serve.engines.cluster import BATCH_SECONDS, MARK, PieceBatcher, choose_num_threads, find_error


@pytest.mark.parametrize(
    ("num_replicas", "cpus", "wanted", "found"),
    [(1, [8], None, 8), (2, [8], None, 4), (3, [8], None, 2), (3, [4, 8], None, 4), (2, [2, 8], 4, 4), (8, [8], 1, 1)],
)
def test_replicas_share_the_cpus(num_replicas: int, cpus: list[int], wanted: int | None, found: int) -> None:
    assert choose_num_threads(num_replicas, cpus, num_threads=wanted) == found


@pytest.mark.parametrize(
    ("num_replicas", "cpus", "wanted", "message"),
    [
        (3, [2], None, "3 replicas of 1 thread each do not fit: the nodes have 2 CPUs"),
        (2, [4, 2], 3, "2 replicas of 3 threads each do not fit: the nodes have 4, 2 CPUs"),
        (1, [], None, "1 replicas of 1 thread each do not fit: the nodes have no CPUs"),
    ],
)
def test_too_many_replicas_are_refused(num_replicas: int, cpus: list[int], wanted: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_num_threads(num_replicas, cpus, num_threads=wanted)


def test_an_error_of_ours_is_found_in_a_traceback() -> None:
    text = f"""Traceback: RuntimeError: no\nRuntimeError: {MARK}["it is cut", "m.gguf on node", "get it again"]\nmore"""
    found = find_error(text)
    assert found is not None
    assert (found.what, found.where, found.fix) == ("it is cut", "m.gguf on node", "get it again")
    assert find_error("Traceback: RuntimeError: no") is None


class Sent:
    """The batches that were sent, and whether more are wanted."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.is_enough = False

    def take(self, batch: list[Piece]) -> bool:
        self.batches.append([piece.text for piece in batch])
        return self.is_enough


def test_the_first_text_goes_at_once_and_the_next_ones_together() -> None:
    now = 0.0
    sent = Sent()
    batcher = PieceBatcher(sent.take, clock=lambda: now)
    for text in ("", "春", "眠", "不"):
        batcher.add(Piece(text))
    assert sent.batches == [[""], ["春"]]
    now = BATCH_SECONDS * 1.1
    batcher.add(Piece("觉"))
    assert sent.batches[2:] == [["眠", "不", "觉"]]
    batcher.add(Piece("晓"))
    batcher.add(Piece("", "stop", Usage(1, 5)))
    assert sent.batches[3:] == [["晓", ""]], "the end does not wait"


def test_the_wish_for_no_more_pieces_is_passed_on() -> None:
    sent = Sent()
    batcher = PieceBatcher(sent.take, clock=lambda: 0.0)
    assert not batcher.add(Piece("春"))
    sent.is_enough = True
    assert batcher.add(Piece("", "stop"))
