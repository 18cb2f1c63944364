"""Blocking work on a thread, consumed from an event loop as an async generator."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import Executor
from typing import TypeVar, cast

T = TypeVar("T")
Receive = Callable[[T], bool]
"""Takes the next item; returns True when no more are wanted."""


def iterate_in_thread(make: Callable[[], Iterator[T]], *, threads: Executor) -> AsyncGenerator[T]:
    """Create an iterator on a thread and yield its items; closing this generator closes the iterator.

    It is closed on its own thread, at its next item, because a running generator cannot be closed from outside.
    """
    return run_in_thread(lambda receive: send_all(make(), receive), threads=threads)


async def run_in_thread(work: Callable[[Receive[T]], None], *, threads: Executor) -> AsyncGenerator[T]:
    """Run `work` on a thread and yield the items that it passes to its callback; its exception is raised at the end.

    Once this generator is closed, the callback returns True.
    """
    loop = asyncio.get_running_loop()
    # One-element tuples, so that None can mark the end.
    queue: asyncio.Queue[tuple[T] | None] = asyncio.Queue()
    is_closed = threading.Event()

    def put(item: tuple[T] | None) -> None:
        # RuntimeError: the loop was closed while the thread still ran, so there is no consumer left.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(queue.put_nowait, item)

    def receive(item: T) -> bool:
        if not is_closed.is_set():
            put((item,))
        return is_closed.is_set()

    def run() -> None:
        try:
            work(receive)
        finally:
            put(None)

    done = loop.run_in_executor(threads, run)
    # Retrieve the exception even if the consumer has gone; otherwise asyncio logs it as never retrieved.
    done.add_done_callback(lambda future: future.cancelled() or future.exception())
    try:
        while (item := await queue.get()) is not None:
            yield item[0]
        await done
    finally:
        is_closed.set()


def send_all(items: Iterator[T], receive: Receive[T]) -> None:
    """Pass the items of an iterator to a callback until it returns True, then close the iterator."""
    try:
        for item in items:
            if receive(item):
                return
    finally:
        if isinstance(items, Generator):
            cast("Generator[T]", items).close()
