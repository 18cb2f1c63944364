"""Split conversations that are too long: their turns, and the longest runs of turns that fit."""

import bisect
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile

from baihua.chat.types import Message


def split_turns(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """The system messages at the head, and the rest as turns, each with its answer; the last may have none."""
    system = list(takewhile(lambda message: message.role == "system", messages))
    turns: list[list[Message]] = []
    for message in messages[len(system) :]:
        if not turns or (turns[-1][-1].role == "assistant" and message.role != "assistant"):
            turns.append([])
        turns[-1].append(message)
    return system, turns


def fitting_runs(num_units: int, fits: Callable[[int, int], bool]) -> Iterator[tuple[int, int]]:
    """The start and end of each run of units, every run as long as it fits; a unit that never fits is a run alone.

    `fits(start, end)` must be monotonic: what fits still fits with fewer units.
    """
    start = 0
    while start < num_units:
        # Counting tokens costs the most, so the length of a run is doubled and then bisected: a run of k units costs
        # about 2 log k counts of texts near the limit, where unit by unit would cost k.
        step = 1
        while start + step <= num_units and fits(start, start + step):
            step *= 2
        longest = start + step // 2
        untried = range(longest + 1, min(start + step, num_units + 1))
        longest += bisect.bisect_left(untried, True, key=lambda end: not fits(start, end))
        end = max(longest, start + 1)
        yield start, end
        start = end
