"""From work that blocks to something that an event loop can wait for."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import Executor
from typing import TypeVar, cast

T = TypeVar("T")
Receive = Callable[[T], bool]


def pump(make: Callable[[], Iterator[T]], *, threads: Executor) -> AsyncGenerator[T]:
    """Yield what an iterator yields that is made and read on another thread; closing this one closes that one.

    The other iterator is closed where it is read, at its next item, because a generator that runs cannot be closed.
    """
    return receive_all(lambda receive: pass_on(make(), receive), threads=threads)


async def receive_all(work: Callable[[Receive[T]], None], *, threads: Executor) -> AsyncGenerator[T]:
    """Yield what work on another thread hands over; after this is closed, its next item is answered with True."""
    loop = asyncio.get_running_loop()
    # One item, or none at the end; an error comes with the end, from the thread's own result.
    arrived: asyncio.Queue[tuple[T] | None] = asyncio.Queue()
    is_left = threading.Event()

    def put(item: tuple[T] | None) -> None:
        # The loop may be closed while the thread still works: then nobody waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(arrived.put_nowait, item)

    def receive(item: T) -> bool:
        if not is_left.is_set():
            put((item,))
        return is_left.is_set()

    def run() -> None:
        try:
            work(receive)
        finally:
            put(None)

    done = loop.run_in_executor(threads, run)
    # Where nobody waits any longer, nobody asks for the error either.
    done.add_done_callback(lambda future: future.cancelled() or future.exception())
    try:
        while (item := await arrived.get()) is not None:
            yield item[0]
        await done
    finally:
        is_left.set()


def pass_on(items: Iterator[T], receive: Receive[T]) -> None:
    """Hand over the items of an iterator until `receive` returns True; then it is closed."""
    try:
        for item in items:
            if receive(item):
                return
    finally:
        if isinstance(items, Generator):
            cast("Generator[T]", items).close()
