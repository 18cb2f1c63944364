"""The queue before an engine: order, bounds, and no place that is lost."""

import asyncio
import random

import pytest

from baihua.serve.api.gate import Gate
from baihua.serve.web.problem import Problem


def gate(*, num_slots: int = 1, max_waiting: int = 8, max_wait_seconds: float = 5) -> Gate:
    return Gate(num_slots=num_slots, max_waiting=max_waiting, max_wait_seconds=max_wait_seconds)


def test_first_come_first_served_and_never_more_than_there_are_places() -> None:
    async def work() -> list[int]:
        door, order, most = gate(num_slots=2, max_waiting=20), [], 0

        async def visit(number: int) -> None:
            nonlocal most
            async with door.enter():
                order.append(number)
                most = max(most, door.num_running)
                await asyncio.sleep(0.001)

        await asyncio.gather(*(visit(number) for number in range(20)))
        assert most == 2
        assert (door.num_running, door.num_waiting) == (0, 0)
        return order

    assert asyncio.run(work()) == list(range(20))


def test_who_comes_too_late_is_told_at_once() -> None:
    async def work() -> Problem:
        door = gate(max_waiting=1)
        async with door.enter():
            waiting = asyncio.create_task(door.enter().__aenter__())
            await asyncio.sleep(0)
            with pytest.raises(Problem, match="too many requests wait already") as caught:
                async with door.enter():
                    pass
            waiting.cancel()
        return caught.value

    problem = asyncio.run(work())
    assert (problem.status, problem.code) == (429, "queue_full")
    assert problem.retry_after is not None and problem.retry_after >= 1


def test_those_who_come_at_once_see_each_other() -> None:
    async def work() -> tuple[int, int]:
        door = gate(num_slots=2, max_waiting=6)

        async def visit() -> None:
            async with door.enter():
                await asyncio.sleep(0.001)

        found = await asyncio.gather(*(visit() for _ in range(50)), return_exceptions=True)
        # Seven come in one turn, the eighth in a later one.
        early = [asyncio.create_task(visit()) for _ in range(7)]
        await asyncio.sleep(0)
        await asyncio.gather(*early, visit())
        return found.count(None), sum(isinstance(one, Problem) for one in found)

    assert asyncio.run(work()) == (8, 42)


def test_with_no_queue_a_free_place_is_still_given() -> None:
    async def work() -> None:
        async with gate(max_waiting=0).enter():
            pass

    asyncio.run(work())


def test_who_waits_too_long_is_sent_away_and_leaves_no_trace() -> None:
    async def work() -> None:
        door = gate(max_wait_seconds=0.02)
        async with door.enter():
            with pytest.raises(Problem, match="no place became free in time") as caught:
                async with door.enter():
                    pass
            assert (caught.value.status, caught.value.code) == (503, "queue_timeout")
        async with door.enter():
            assert (door.num_running, door.num_waiting) == (1, 0)

    asyncio.run(work())


def test_closing_sends_away_who_waits_and_lets_who_works_finish() -> None:
    async def work() -> None:
        door = gate()
        async with door.enter():
            waiting = asyncio.create_task(door.enter().__aenter__())
            await asyncio.sleep(0)
            door.close()
            with pytest.raises(Problem, match="the server is stopping"):
                await waiting
            assert door.num_running == 1
        with pytest.raises(Problem, match="the server is stopping"):
            async with door.enter():
                pass

    asyncio.run(work())


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_cancelled_and_when_no_place_is_lost(seed: int) -> None:
    async def work() -> None:
        rng = random.Random(seed)
        door = gate(num_slots=2, max_waiting=100, max_wait_seconds=0.004)

        async def visit() -> None:
            async with door.enter():
                await asyncio.sleep(rng.choice([0, 0.001, 0.003]))

        visits = [asyncio.create_task(visit()) for _ in range(60)]
        for task in rng.sample(visits, 30):
            await asyncio.sleep(rng.choice([0, 0, 0.001]))
            task.cancel()
        await asyncio.gather(*visits, return_exceptions=True)
        assert (door.num_running, door.num_waiting) == (0, 0)
        async with door.enter(), door.enter():
            assert door.num_running == 2

    asyncio.run(work())
