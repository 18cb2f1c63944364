"""The queue before an engine: order, bounds, and no lost slots."""

import asyncio
import random

import pytest

from baihua.serve.api.request_queue import RequestQueue
from baihua.serve.web.errors import HttpError


def queue_of(*, num_slots: int = 1, max_waiting: int = 8, max_wait_seconds: float = 5) -> RequestQueue:
    return RequestQueue(num_slots, max_waiting=max_waiting, max_wait_seconds=max_wait_seconds)


def test_requests_run_in_order_and_never_more_than_there_are_slots() -> None:
    async def work() -> list[int]:
        queue, order, most = queue_of(num_slots=2, max_waiting=20), [], 0

        async def visit(number: int) -> None:
            nonlocal most
            async with queue.slot():
                order.append(number)
                most = max(most, queue.num_running)
                await asyncio.sleep(0.001)

        await asyncio.gather(*(visit(number) for number in range(20)))
        assert most == 2
        assert (queue.num_running, queue.num_waiting) == (0, 0)
        return order

    assert asyncio.run(work()) == list(range(20))


def test_a_full_queue_rejects_at_once() -> None:
    async def work() -> HttpError:
        queue = queue_of(max_waiting=1)
        async with queue.slot():
            waiting = asyncio.create_task(queue.slot().__aenter__())
            await asyncio.sleep(0)
            with pytest.raises(HttpError, match="the request queue is full") as caught:
                async with queue.slot():
                    pass
            waiting.cancel()
        return caught.value

    error = asyncio.run(work())
    assert (error.status_code, error.code) == (429, "queue_full")
    assert error.headers is not None and int(error.headers["Retry-After"]) >= 1


def test_requests_of_one_turn_of_the_loop_see_each_other() -> None:
    async def work() -> tuple[int, int]:
        queue = queue_of(num_slots=2, max_waiting=6)

        async def visit() -> None:
            async with queue.slot():
                await asyncio.sleep(0.001)

        found = await asyncio.gather(*(visit() for _ in range(50)), return_exceptions=True)
        # Seven come in one turn, the eighth in a later one.
        early = [asyncio.create_task(visit()) for _ in range(7)]
        await asyncio.sleep(0)
        await asyncio.gather(*early, visit())
        return found.count(None), sum(isinstance(one, HttpError) for one in found)

    assert asyncio.run(work()) == (8, 42)


def test_without_a_queue_a_free_slot_is_still_granted() -> None:
    async def work() -> None:
        async with queue_of(max_waiting=0).slot():
            pass

    asyncio.run(work())


def test_a_request_that_waits_too_long_is_rejected_and_leaves_no_trace() -> None:
    async def work() -> None:
        queue = queue_of(max_wait_seconds=0.02)
        async with queue.slot():
            with pytest.raises(HttpError, match=r"no slot became free within 0\.02 s") as caught:
                async with queue.slot():
                    pass
            assert (caught.value.status_code, caught.value.code) == (503, "queue_timeout")
        async with queue.slot():
            assert (queue.num_running, queue.num_waiting) == (1, 0)

    asyncio.run(work())


def test_closing_rejects_waiting_requests_and_lets_running_ones_finish() -> None:
    async def work() -> None:
        queue = queue_of()
        async with queue.slot():
            waiting = asyncio.create_task(queue.slot().__aenter__())
            await asyncio.sleep(0)
            queue.close()
            with pytest.raises(HttpError, match="the server is stopping"):
                await waiting
            assert queue.num_running == 1
        with pytest.raises(HttpError, match="the server is stopping"):
            async with queue.slot():
                pass

    asyncio.run(work())


@pytest.mark.parametrize("seed", range(20))
def test_no_slot_is_lost_whatever_is_cancelled_and_when(seed: int) -> None:
    async def work() -> None:
        rng = random.Random(seed)
        queue = queue_of(num_slots=2, max_waiting=100, max_wait_seconds=0.004)

        async def visit() -> None:
            async with queue.slot():
                await asyncio.sleep(rng.choice([0, 0.001, 0.003]))

        visits = [asyncio.create_task(visit()) for _ in range(60)]
        for task in rng.sample(visits, 30):
            await asyncio.sleep(rng.choice([0, 0, 0.001]))
            task.cancel()
        await asyncio.gather(*visits, return_exceptions=True)
        assert (queue.num_running, queue.num_waiting) == (0, 0)
        async with queue.slot(), queue.slot():
            assert queue.num_running == 2

    asyncio.run(work())
