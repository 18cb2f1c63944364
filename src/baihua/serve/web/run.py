"""Listen, and stop without breaking off an answer."""

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from baihua.core.env import Environment
from baihua.core.errors import InputError
from baihua.serve.web.guard import is_loopback

# What is still being answered so long after the first signal is broken off. A second signal breaks off at once.
MAX_STOP_SECONDS = 120
STOP_CHECK_SECONDS = 0.1


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    # On Windows this option would let another program take the same port.
    if sys.platform != "win32":
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        # From here on connections wait, until the server takes them.
        found.listen()
    except (OSError, OverflowError) as error:
        found.close()
        raise InputError(
            f"cannot listen here: {error}", where=f"{host}, port {port}", fix="choose another with --host or --port"
        ) from error
    return found


def read_key(file: Path | None, environment: Environment, *, host: str) -> str | None:
    """The key that clients must send: from a file, else from the environment; needed to listen beyond this machine."""
    if file is not None:
        try:
            key = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the key: {error}", where=str(file), fix="give a text file") from error
    else:
        key = environment.get("BAIHUA_API_KEY").strip()
    if not key:
        if file is not None:
            raise InputError("the file of the key is empty", where=str(file), fix="write a long random key into it")
        if not is_loopback(host):
            raise InputError(
                "whoever reaches this address could use the models",
                where=f"--host {host}",
                fix="give --api-key-file FILE or BAIHUA_API_KEY, or listen at 127.0.0.1",
            )
        return None
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InputError("a key has letters, digits and signs of ASCII, no blanks", fix="make another one")
    return key


def run(app: Starlette, at: socket.socket, *, on_stop: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or Ctrl-C; answers that have begun are finished first, and `on_stop` is told before."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        # An access log would keep who asked when; nobody has asked for that.
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=MAX_STOP_SECONDS,
        lifespan="on",
        ws="none",
    )
    # uvicorn stops at these signals, and sends them on when it has stopped. Then there is nothing left to do.
    before = {number: signal.signal(number, lambda number, frame: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        # uvloop where it is installed; what it gains is less than the noise here (docs/log.md, 2026-11-26).
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(_serve(uvicorn.Server(config), at, on_stop))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _serve(server: uvicorn.Server, at: socket.socket, on_stop: Callable[[], None]) -> None:
    serving = asyncio.create_task(server.serve(sockets=[at]))
    while not server.should_exit and not serving.done():
        await asyncio.sleep(STOP_CHECK_SECONDS)
    on_stop()
    await serving
