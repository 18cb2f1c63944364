"""Ray: start a private instance on this machine, or join a cluster that is already running.

Ray's ports listen on every address of a machine, and anyone who reaches them can run code there. A private instance
therefore requires a token that only this process and its children know.
"""

import socket
import sys
from importlib import import_module
from typing import Any

from baihua.core.env import forbid_telemetry, lock_private_ray
from baihua.core.errors import InputError
from baihua.core.stopping import sigterm_as_ctrl_c

LOCAL = "local"
CLIENT = "ray://"
CONNECT_SECONDS = 5
QUIET = {"log_to_driver": False, "logging_level": "error", "namespace": "baihua"}


def connect(
    address: str,
    *,
    option: str = "--cluster",
    module: str = "ray",
    allows_client: bool = False,
    num_cpus: int | None = None,
    store_bytes: int | None = None,
) -> bool:
    """Join the cluster at HOST:PORT, or start a private instance for `local`; return whether it was started here.

    Calls after the first share its connection. `option` is the command-line option that an error about a missing
    `module` of Ray names. `allows_client` also accepts `ray://HOST:PORT`, the address of a Ray Client server.
    `num_cpus` and `store_bytes`, the size of the object store, apply to a private instance; by default Ray chooses.
    """
    forbid_telemetry()
    is_local = address == LOCAL
    # Ray reads these variables when it is imported, and never again.
    if is_local and "ray" not in sys.modules:
        lock_private_ray()
    try:
        import_module(module)
        ray: Any = import_module("ray")
        ray_error: type[Exception] = import_module("ray.exceptions").RayError
    except ImportError as error:
        raise InputError("Ray is not installed", where=option, fix="pip install 'baihua[cluster]'") from error
    if ray.is_initialized():
        return False
    options: dict[str, Any] = dict(QUIET)
    if is_local:
        options |= {"include_dashboard": False, "num_cpus": num_cpus, "object_store_memory": store_bytes}
    else:
        _check_reachable(address, allows_client=allows_client)
    try:
        # Afterwards SIGTERM does what it did before: Ray installs a handler that exits with status 15.
        with sigterm_as_ctrl_c():
            ray.init(address, **options)
    except (OSError, RuntimeError, ValueError, ray_error) as error:
        raise _no_answer(address, str(error).partition("\n")[0]) from error
    return is_local


def _check_reachable(address: str, *, allows_client: bool) -> None:
    """Fail at once where nothing listens: Ray would retry for minutes."""
    host, _, port = (address.removeprefix(CLIENT) if allows_client else address).rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise _no_answer(address, "the address is not HOST:PORT")
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
