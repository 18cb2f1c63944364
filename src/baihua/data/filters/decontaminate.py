"""Drops rows that contain questions of an evaluation, so that its scores stay meaningful.

Only questions and documents are compared. Answers share stock phrases and code with evaluation questions, but hardly
ever the question itself: of 50,000 Chinese Alpaca rows 20 answers contained half of a question, always common code.
"""

import functools
from collections import Counter, defaultdict
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from baihua.chat.types import Message
from baihua.core import artifact
from baihua.core.config import Base, content, located
from baihua.core.errors import InputError
from baihua.data.clean.contract import Drop, Keep, RowView
from baihua.data.clean.texts import grams, normalise
from baihua.data.formats.questions import texts_in
from baihua.data.read.files import STARTER, find_files
from baihua.data.read.records import read_objects


def _find(name: str, info: ValidationInfo) -> str:
    located_name = name if name.startswith(STARTER) else located(name, info)
    find_files([located_name])
    return located_name


class Config(Base):
    """The evaluation questions, and how similar to one of them a row may be."""

    kind: Literal["decontaminate"] = "decontaminate"
    """The name of this filter."""
    files: list[Annotated[str, AfterValidator(_find)]] = content()
    """Evaluation files, folders or patterns, from the recipe's folder."""
    columns: list[str] = Field(default=["question", "text", "prompt", "instruction", "turns"], min_length=1)
    """Keys whose text, list of texts or list of messages contains questions; a record may have any of them."""
    ngram: int = Field(default=8, ge=2, le=50)
    """Length of the compared n-grams in letters and digits; a shorter question must match as a whole."""
    maximum_overlap: float = Field(default=0.5, gt=0, le=1)
    """A row that contains at least this share of a question's n-grams is dropped, above 0 to 1."""


EXAMPLE = Config(files=["starter:open_qa"], columns=["messages"])
KEPT = [[Message("user", "酒精的化学式是什么？"), Message("assistant", "C2H5OH。")]]
DROPPED = [[Message("user", "请问，水的化学式是什么呢？"), Message("assistant", "H2O。")]]


def fingerprint(config: Config) -> list[str]:
    """SHA-256 of each evaluation file, in order."""
    return [artifact.hash_file(file) for file in find_files(config.files)]


def check_row(row: RowView, config: Config) -> Keep | Drop:
    """Drop a row with a question (or document) that contains most of an evaluation question."""
    questions, having = _read_questions(tuple(config.files), tuple(config.columns), config.ngram)
    for message in row.messages:
        if message.role in ("system", "assistant"):
            continue
        # A text shorter than n is one gram, itself, which only an equal question has: it matches as a whole.
        found = grams(normalise(message.text), config.ngram)
        counts = Counter(number for gram in found for number in having.get(gram, ()))
        shares = ((count / questions[number][1], -number) for number, count in counts.items())
        share, number = max(shares, default=(0.0, 0))
        if share >= config.maximum_overlap:
            return Drop("contaminated", f"{share:.0%} of {questions[-number][0]}")
    return Keep()


# Reading 1,000 questions takes a moment, so each process does it once.
@functools.cache
def _read_questions(
    files: tuple[str, ...], columns: tuple[str, ...], n: int
) -> tuple[list[tuple[str, int]], dict[str, list[int]]]:
    """The label and number of n-grams of each question, and the numbers of the questions that have an n-gram.

    A question without any n-gram is left out; a file without any question is an InputError.
    """
    questions: list[tuple[str, set[str]]] = []
    for file in find_files(list(files)):
        num_before = len(questions)
        # A record that cannot be read is an error: it could be the very question that the data contains.
        for number, (_, record) in enumerate(read_objects(file), start=1):
            texts = [normalise(text) for column in columns for text in texts_in(record.get(column))]
            questions += [(f"question {number} of {file.name}", grams(text, n)) for text in texts if text]
        if len(questions) == num_before:
            keys = ", ".join(columns)
            raise InputError(f"no question found under {keys}", where=str(file), fix="set `columns` to its keys")
    having = defaultdict[str, list[int]](list)
    for number, (_, found) in enumerate(questions):
        for gram in found:
            having[gram].append(number)
    return [(label, len(found)) for label, found in questions], having
