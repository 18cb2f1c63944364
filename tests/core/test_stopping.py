"""How a training is asked to stop: once politely, twice at once; and what SIGTERM means elsewhere."""

import os
import signal
import sys
import threading

import pytest
from cli_runs import run_here

import baihua.cli.main
from baihua.core.stopping import StopRequest, sigterm_as_ctrl_c

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send these signals to itself")


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_and_ends_nothing(number: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with StopRequest() as stop:
        assert not stop.is_requested
        send(number)
        assert stop.is_requested
    assert "stopping after this step; progress will be saved" in caplog.text


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_ctrl_c_after_that_ends_at_once(first: int) -> None:
    with pytest.raises(KeyboardInterrupt), StopRequest():
        send(first)
        send(signal.SIGINT)


def test_repeated_sigterm_stays_polite() -> None:
    with StopRequest() as stop:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert stop.is_requested


def test_signals_mean_afterwards_what_they_meant_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(KeyboardInterrupt), StopRequest():
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] != before
        raise KeyboardInterrupt
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_sigterm_ends_a_verb_as_ctrl_c_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(baihua.cli.main, "make_app", lambda words: lambda words, standalone_mode: send(signal.SIGTERM))
    found = run_here(capsys, "run", "recipe.yaml")
    assert found.status == 130
    assert "interrupted; run the same command again to resume" in found.err
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_thread_that_may_not_handle_signals_is_never_asked() -> None:
    found: list[bool] = []

    def work() -> None:
        with sigterm_as_ctrl_c(), StopRequest() as stop:
            found.append(stop.is_requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
