"""Ray itself: a private one of this machine, or one that runs already.

Ray's ports listen at all addresses of a machine, and whoever reaches them may run code there. A private one therefore
asks for a token that only this process and its children know.
"""

import logging
import signal
import socket
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from baihua.backends.llama_cpp.server import default_num_threads
from baihua.core.env import forbid_telemetry, lock_private_ray
from baihua.core.errors import InputError

CONNECT_SECONDS = 5
# Pieces of answers are so small that Ray sends them beside its object store; its default is a third of the memory.
STORE_BYTES = 100 * 2**20
QUIET = {"log_to_driver": False, "logging_level": "error", "namespace": "baihua"}


def connect(address: str) -> bool:
    """Join the Ray at an address, or start a private one for `local`; True when it was started here.

    Several models share one: the first that is opened starts it.
    """
    forbid_telemetry()
    is_local = address == "local"
    # Ray looks for these when it is imported, and never again.
    if is_local and "ray" not in sys.modules:
        lock_private_ray()
    try:
        import ray  # pyright: ignore[reportMissingImports]  (the extra `cluster`)
        import ray.serve  # pyright: ignore[reportMissingImports]
        from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            "replicas need Ray Serve, which is not installed", where="--replicas", fix="pip install 'baihua[cluster]'"
        ) from error
    if ray.is_initialized():
        return False
    if not is_local:
        _knock(address)
    options: dict[str, Any] = {"include_dashboard": False, "object_store_memory": STORE_BYTES} if is_local else {}
    try:
        with _kept_sigterm():
            ray.init(address, num_cpus=default_num_threads() if is_local else None, **options, **QUIET)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise _no_answer(address, str(error).partition("\n")[0]) from error
    # Each death of a replica would be told in fifty lines; ours say what it means for an answer.
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    return is_local


def threads_for(num_replicas: int, cpus: list[int], *, num_threads: int | None) -> int:
    """Threads of each replica on nodes with so many CPUs: as many as fit everywhere, unless they are given."""
    choices = [num_threads] if num_threads else range(max(cpus, default=0), 0, -1)
    for choice in choices:
        if sum(cpu // choice for cpu in cpus) >= num_replicas:
            return choice
    each = f"{num_threads or 1} thread{'s' if (num_threads or 1) > 1 else ''}"
    raise InputError(
        f"{num_replicas} replicas of {each} each do not fit: the nodes have {', '.join(map(str, cpus)) or 'no'} CPUs",
        where=f"--replicas {num_replicas}",
        fix="use fewer replicas or --threads, or a larger cluster",
    )


def node_cpus() -> list[int]:
    """CPUs of each node that is alive."""
    import ray  # pyright: ignore[reportMissingImports]

    return sorted(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])


def _knock(address: str) -> None:
    """Fail at once where nobody listens: Ray would go on asking for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise _no_answer(address, "this is no HOST:PORT")
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS):
            pass
    except (OSError, OverflowError) as error:
        raise _no_answer(address, str(error)) from error


def _no_answer(address: str, why: str) -> InputError:
    return InputError(
        f"no Ray cluster answers: {why}",
        where=f"--cluster {address}",
        fix="start one (ray start --head), check the address (HOST:PORT), or use --cluster local",
    )


@contextmanager
def _kept_sigterm() -> Generator[None]:
    """Ray would take SIGTERM for itself, and end this process with the status 15."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
