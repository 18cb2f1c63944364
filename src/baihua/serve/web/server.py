"""Listening, API keys, and shutdown that lets running answers finish."""

import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from baihua.core.errors import InputError
from baihua.serve.web.app import is_loopback

# Answers still running this long after the first signal are cancelled; a second Ctrl-C cancels them at once.
MAX_STOP_SECONDS = 120


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 picks a free port. Connections wait in its backlog until the server accepts them."""
    is_v6 = ":" in host
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, dualstack_ipv6=is_v6 and socket.has_dualstack_ipv6())
    except OSError as error:
        fix = "choose another --host or --port"
        raise InputError(f"cannot listen on this address: {error}", where=f"{host}, port {port}", fix=fix) from error


def read_key(file: Path | None, environment: Mapping[str, str], *, host: str) -> str | None:
    """The API key from a file, else from the environment; required to listen beyond this machine."""
    if file is not None:
        try:
            key = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the API key: {error}", where=str(file), fix="use a text file") from error
        if not key:
            raise InputError("the key file is empty", where=str(file), fix="write a long random key into it")
    else:
        key = environment.get("BAIHUA_API_KEY", "").strip()
    if not key and not is_loopback(host):
        fix = "pass --api-key-file FILE, set BAIHUA_API_KEY, or listen on 127.0.0.1"
        raise InputError("listening beyond this machine requires an API key", where=f"--host {host}", fix=fix)
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InputError("an API key must be printable ASCII without spaces", fix="generate another key")
    return key or None


def run(app: Starlette, at: socket.socket, *, on_stop: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or Ctrl-C; then call `on_stop` and let running answers finish."""

    class NotifyingServer(uvicorn.Server):
        """Calls `on_stop` before the listening socket is closed."""

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            on_stop()
            await super().shutdown(sockets)

    # No access log: there is no record of who asked what and when.
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, lifespan="on", ws="none")
    config.timeout_graceful_shutdown = MAX_STOP_SECONDS
    # After its shutdown uvicorn raises the signals that it caught again; by then there is nothing left to stop.
    before = {number: signal.signal(number, lambda number, frame: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        # uvloop where it is installed; it gains less than the noise here (docs/log.md, 2026-11-26).
        NotifyingServer(config).run(sockets=[at])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
