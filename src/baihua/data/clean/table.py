"""What a filter that must see all rows at once may ask of them."""

# ruff: noqa: N815  (names of arrays end with their shape)

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

Part = Literal["all", "questions", "answers"]


@dataclass(frozen=True, slots=True)
class Marks:
    """What a table filter found: rows to drop, each with the row that is kept in its place.

    R rows dropped, N rows of the table. `group_N` gives rows that belong together the same number: such rows
    never end up on both sides of a split; a row that belongs to no other has its own row number.
    """

    dropped_R: np.ndarray
    kept_R: np.ndarray
    similarity_R: np.ndarray | None
    reason: str
    group_N: np.ndarray


class Table(Protocol):
    """Rows on disk, N of them, worked on in parallel and in blocks: nothing here holds all texts in memory."""

    num_rows: int

    def map(self, function: Callable[[list[str]], np.ndarray], part: Part) -> np.ndarray:
        """One number or vector per row, as an array over N (a file on disk, mapped).

        The function gets the texts of a block of rows and returns an array with as many entries. It runs in other
        processes: give a function of a module, or a `functools.partial` of one.
        """
        ...

    def map_ragged(
        self, function: Callable[[list[str]], tuple[np.ndarray, np.ndarray]], part: Part
    ) -> tuple[np.ndarray, np.ndarray]:
        """Any number of values per row, and the offsets_N+1 where each row's begin.

        The function returns the values and how many each row has.
        """
        ...
