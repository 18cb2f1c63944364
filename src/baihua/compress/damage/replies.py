"""Do a level's greedy replies differ from the reference's, and by how many characters?"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from baihua.chat.types import ChatModel, Sampling
from baihua.chat.zh import is_mainly_chinese
from baihua.compress.damage.texts import Question


@dataclass(frozen=True, slots=True)
class ReplyPair:
    """What the reference and a level said to one question."""

    question: Question
    reference: str
    level: str

    @property
    def is_changed(self) -> bool:
        """Whether a single character differs."""
        return self.reference != self.level

    @property
    def distance(self) -> float:
        """Character edits over the longer reply's length, 0 to 1; 0 for two empty replies."""
        length = max(len(self.reference), len(self.level))
        return edit_distance(self.reference, self.level) / length if length else 0.0

    @property
    def language(self) -> str:
        """The question's language: zh, or en for all else."""
        return "zh" if is_mainly_chinese(self.question.text) else "en"


def ask(model: ChatModel, questions: Iterable[Question], *, max_tokens: int) -> list[str]:
    """The greedy reply to each question, each on its own."""
    sampling = Sampling(max_tokens=max_tokens, temperature=0.0)
    return ["".join(piece.text for piece in model.stream(q.messages, sampling)) for q in questions]


def edit_distance(first: str, second: str) -> int:
    """The fewest insertions, deletions and replacements of a character that make one text of the other (Levenshtein).

    The usual table, a row at a time; time grows with the product of the lengths.
    """
    places = np.arange(len(second) + 1)
    row, codes = places, np.array([ord(char) for char in second], dtype=np.int64)
    for number, char in enumerate(first, start=1):
        row = np.concatenate([[number], np.minimum(row[1:] + 1, row[:-1] + (codes != ord(char)))])
        # An insertion costs one for each place to the right: what counts is the smallest value less its place so far.
        row = np.minimum.accumulate(row - places) + places
    return int(row[-1])
