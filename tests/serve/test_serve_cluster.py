"""Replicas: what needs no Ray. With Ray, see test_serve_replicas.py."""

import pytest

from baihua.chat.types import Piece, Usage
from baihua.core.errors import InputError
from baihua.serve.engines.cluster_ray import threads_for
from baihua.serve.engines.cluster_replica import MARK, PARCEL_SECONDS, Packer, Parcel, error_in


@pytest.mark.parametrize(
    ("num_replicas", "cpus", "wanted", "found"),
    [(1, [8], None, 8), (2, [8], None, 4), (3, [8], None, 2), (3, [4, 8], None, 4), (2, [2, 8], 4, 4), (8, [8], 1, 1)],
)
def test_replicas_share_the_cpus(num_replicas: int, cpus: list[int], wanted: int | None, found: int) -> None:
    assert threads_for(num_replicas, cpus, num_threads=wanted) == found


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
        threads_for(num_replicas, cpus, num_threads=wanted)


def test_an_error_of_ours_is_found_in_a_traceback() -> None:
    told = f"""Traceback: RuntimeError: no\nRuntimeError: {MARK}["it is cut", "m.gguf on node", "get it again"]\nmore"""
    found = error_in(told)
    assert found is not None
    assert (found.what, found.where, found.fix) == ("it is cut", "m.gguf on node", "get it again")
    assert error_in("Traceback: RuntimeError: no") is None


class Sent:
    """Parcels that were sent, and whether more are wanted."""

    def __init__(self) -> None:
        self.parcels: list[list[str]] = []
        self.is_enough = False

    def take(self, parcel: Parcel) -> bool:
        self.parcels.append([piece.text for piece in parcel])
        return self.is_enough


def test_the_first_text_goes_at_once_and_the_next_ones_together() -> None:
    now = 0.0
    sent = Sent()
    packer = Packer(sent.take, clock=lambda: now)
    for text in ("", "春", "眠", "不"):
        packer.take(Piece(text))
    assert sent.parcels == [[""], ["春"]]
    now = PARCEL_SECONDS * 1.1
    packer.take(Piece("觉"))
    assert sent.parcels[2:] == [["眠", "不", "觉"]]
    packer.take(Piece("晓"))
    packer.take(Piece("", "stop", Usage(1, 5)))
    assert sent.parcels[3:] == [["晓", ""]], "the end does not wait"


def test_whoever_has_enough_is_heard() -> None:
    sent = Sent()
    packer = Packer(sent.take, clock=lambda: 0.0)
    assert not packer.take(Piece("春"))
    sent.is_enough = True
    assert packer.take(Piece("", "stop"))
