"""A private Ray requires a token, and addresses are checked before Ray retries them; with a fake Ray."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from baihua.core.errors import InputError
from baihua.core.ray import connect
from baihua.data import workers
from baihua.serve.engines import cluster

FAKE = """
import os, signal, types

calls = []

def is_initialized():
    return bool(calls)

def init(address, **options):
    signal.signal(signal.SIGTERM, lambda *_: None)
    calls.append((address, options, {name: os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}))
    if address == "127.0.0.1:2":
        raise exceptions.RayError("version mismatch\\na long explanation")

def cluster_resources():
    return {"CPU": 3.0}
"""


@pytest.fixture
def fake_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[Any]]]:
    """A Ray that notes each start with the environment at that moment; a function that gives its notes."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "__init__.py").write_text(FAKE + "\nfrom ray import exceptions\n", encoding="utf-8")
    (tmp_path / "ray" / "exceptions.py").write_text("class RayError(Exception): pass\n", encoding="utf-8")
    (tmp_path / "ray" / "serve.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        # Set and removed, so that the end of the test removes what the product sets.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr("daft.set_runner_ray", lambda: None)
    workers._use_ray.cache_clear()
    yield lambda: sys.modules["ray"].calls
    workers._use_ray.cache_clear()
    for name in ("ray", "ray.exceptions", "ray.serve"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("start", [workers._use_ray, cluster.connect_ray], ids=["data", "serve"])
def test_a_private_ray_requires_a_token(fake_ray: Callable[[], list[Any]], start: Callable[[str], object]) -> None:
    start("local")
    [(address, options, environment)] = fake_ray()
    assert address == "local"
    assert environment["RAY_AUTH_MODE"] == "token"
    assert len(environment["RAY_AUTH_TOKEN"]) == 64
    assert options["include_dashboard"] is False


def test_a_cluster_that_runs_keeps_its_own_way_to_let_people_in(
    fake_ray: Callable[[], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.create_connection", lambda *_, **__: nullcontext())
    assert not connect("somewhere:6379")
    [(address, options, environment)] = fake_ray()
    assert (address, environment) == ("somewhere:6379", {"RAY_AUTH_MODE": None, "RAY_AUTH_TOKEN": None})
    assert "num_cpus" not in options


def test_later_calls_share_the_first_connection(fake_ray: Callable[[], list[Any]]) -> None:
    assert [connect("local"), connect("local"), connect("elsewhere:1")] == [True, False, False]
    assert len(fake_ray()) == 1


def test_the_handler_of_sigterm_is_kept(fake_ray: Callable[[], list[Any]]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    connect("local")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("no address", "the address is not HOST:PORT"),
        ("localhost:port", "the address is not HOST:PORT"),
        ("ray://127.0.0.1:1", "the address is not HOST:PORT"),
        ("127.0.0.1:1", ".*refused"),
        ("127.0.0.1:99999", ".*"),
        ("127.0.0.1:2", "version mismatch"),
    ],
)
def test_a_cluster_that_does_not_answer_is_an_error_of_one_line(
    fake_ray: Callable[[], list[Any]], monkeypatch: pytest.MonkeyPatch, address: str, message: str
) -> None:
    if address == "127.0.0.1:2":
        monkeypatch.setattr("socket.create_connection", lambda *_, **__: nullcontext())
    with pytest.raises(InputError, match=rf"^no Ray cluster answers: {message}\n  where: --cluster .*\n  fix:   start"):
        connect(address)


def test_data_may_use_a_ray_client(fake_ray: Callable[[], list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.create_connection", lambda *_, **__: nullcontext())
    assert workers._use_ray("ray://head:10001") == 3
    assert fake_ray()[0][0] == "ray://head:10001"


@pytest.mark.parametrize(
    ("start", "option"), [(workers._use_ray, "--cluster"), (cluster.connect_ray, "--replicas")], ids=["data", "serve"]
)
def test_without_ray_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch, start: Callable[[str], object], option: str
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=rf"Ray is not installed\n  where: {option}\n  fix:   pip install 'baihua\[cl"):
        start("127.0.0.1:1")
