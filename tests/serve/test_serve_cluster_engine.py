"""The front of replicas that die, with a fake handle and Ray's real errors."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scripted_engine import CHATML, ByteTokenizer

from baihua.chat.types import Guidance, Piece, Sampling, Usage
from baihua.core.errors import InputError, RunError
from baihua.serve.engines.cluster import ReplicaConfig

pytest.importorskip("ray.serve", reason="Ray comes with the extra `cluster`")
from ray.exceptions import RayActorError, RayError  # pyright: ignore[reportMissingImports]

from baihua.serve.engines.cluster_engine import NUM_ATTEMPTS, ClusterEngine, wait_until_running

pytestmark = pytest.mark.extras


class FakeHandle:
    """A handle whose replicas send what a test scripts; errors are raised."""

    app_name = "app"

    def __init__(self, *answers: list[list[Piece] | Exception]) -> None:
        self.answers = list(answers)

    def options(self, **_: object) -> "FakeHandle":
        return self

    def remote(self, *_: object) -> "FakeResponse":
        return FakeResponse(self.answers.pop(0))


class FakeResponse:
    def __init__(self, items: list[list[Piece] | Exception]) -> None:
        self._items = items
        self.is_cancelled = False

    async def __anext__(self) -> list[Piece]:
        if not self._items:
            raise StopAsyncIteration
        return self._next()

    def result(self, *, timeout_s: float) -> list[Piece]:
        return self._next()

    def cancel(self) -> None:
        self.is_cancelled = True

    def _next(self) -> list[Piece]:
        item = self._items.pop(0)
        if isinstance(item, Exception):
            raise item
        return item


def engine_of(*answers: list[list[Piece] | Exception]) -> ClusterEngine:
    replica = ReplicaConfig(file=Path("m.gguf"), num_slots=1, num_ctx=64, num_threads=1, adapters={})
    handle: Any = FakeHandle(*answers)
    return ClusterEngine(handle, replica, tokenizer=ByteTokenizer(), template=CHATML, num_replicas=1)


def run(engine: ClusterEngine) -> list[Piece]:
    pieces: list[Piece] = []

    def receive(piece: Piece) -> bool:
        pieces.append(piece)
        return False

    # On a thread, as in the server: in this one the browser of other tests has an event loop that runs.
    with ThreadPoolExecutor(1) as threads:
        threads.submit(engine.run, [1], Sampling(), Guidance(), receive).result()
    return pieces


END = [Piece("春"), Piece("", "stop", Usage(1, 1))]


def test_a_death_before_any_text_is_hidden() -> None:
    died = RayActorError()
    assert [piece.text for piece in run(engine_of([died], [[Piece("")], died], [END]))] == ["", "春", ""]


def test_a_death_after_text_is_an_error() -> None:
    with pytest.raises(RunError, match="a replica died in the middle of an answer"):
        run(engine_of([[Piece("春")], RayActorError()], [END]))


def test_a_request_that_ends_every_replica_is_given_up() -> None:
    deaths: list[list[list[Piece] | Exception]] = [[RayActorError()] for _ in range(NUM_ATTEMPTS + 1)]
    with pytest.raises(RunError, match="3 replicas died on this request"):
        run(engine_of(*deaths))
    with pytest.raises(RunError, match="3 replicas died on this request"):
        engine_of(*[[RayActorError()] for _ in range(NUM_ATTEMPTS)]).embed([1])


def test_other_errors_of_ray_are_reported_in_one_line() -> None:
    with pytest.raises(RunError, match="a replica failed: the second line"):
        run(engine_of([RayError("the first line\nthe second line\n")]))
    with pytest.raises(RunError, match="a replica failed: slow"):
        engine_of([TimeoutError("slow")]).embed([1])


def test_an_answer_without_its_end_is_an_error() -> None:
    with pytest.raises(RunError, match="ended an answer before it was complete"):
        run(engine_of([[Piece("春")]]))


@pytest.fixture
def set_status(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Sets Ray Serve's status of the application `m`, and the message of its deployment."""

    def say(status: str, message: str) -> None:
        deployments = {"replica": SimpleNamespace(message=message)}
        application = SimpleNamespace(status=status, message="", deployments=deployments)
        monkeypatch.setattr("ray.serve.status", lambda: SimpleNamespace(applications={"m": application}))

    return say


def test_replicas_that_do_not_start_are_reported(set_status: Callable[[str, str], None]) -> None:
    set_status("DEPLOY_FAILED", "the worker is gone")
    with pytest.raises(RunError, match="the replicas do not start: the worker is gone"):
        wait_until_running("m")


@pytest.mark.parametrize(("message", "words"), [("no CPU is free", "no CPU is free"), ("", "Ray gives no reason")])
def test_replicas_that_wait_for_too_long_are_reported(
    set_status: Callable[[str, str], None], message: str, words: str
) -> None:
    set_status("DEPLOYING", message)
    with pytest.raises(InputError, match=f"the replicas did not start within 0 s: {words}"):
        wait_until_running("m", max_seconds=0)
