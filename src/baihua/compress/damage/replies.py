"""Greedy replies of a level compared with the reference's, character by character."""

from dataclasses import dataclass

import numpy as np

from baihua.compress.damage.texts import Prompt


@dataclass(frozen=True, slots=True)
class ReplyPair:
    """The replies of the reference and of a level to one prompt."""

    prompt: Prompt
    reference: str
    level: str

    @property
    def is_changed(self) -> bool:
        """Whether a single character differs."""
        return self.reference != self.level

    @property
    def distance(self) -> float:
        """Character edits divided by the longer reply's length, 0 to 1; 0 for two empty replies."""
        length = max(len(self.reference), len(self.level))
        return edit_distance(self.reference, self.level) / length if length else 0.0


def edit_distance(first: str, second: str) -> int:
    """Fewest insertions, deletions and replacements of characters that turn one text into the other (Levenshtein).

    One row of the usual table at a time; time grows with the product of the lengths.
    """
    columns = np.arange(len(second) + 1)
    row, codes = columns, np.array([ord(char) for char in second], dtype=np.int64)
    for number, char in enumerate(first, start=1):
        row = np.concatenate([[number], np.minimum(row[1:] + 1, row[:-1] + (codes != ord(char)))])
        # An insertion costs one per column to the right, so compare values less their column.
        row = np.minimum.accumulate(row - columns) + columns
    return int(row[-1])
