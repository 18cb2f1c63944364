"""Leave out rows that ask an evaluation's questions, so that a score means what it says.

Only questions and documents are looked at. Answers share stock phrases and code with evaluation questions, hardly
ever the question itself: among 50,000 Chinese Alpaca rows 20 answers held half of a question, all of them program
text that everybody writes.
"""

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from baihua.chat.types import Message
from baihua.core import artifact
from baihua.core.config import Base, content, located
from baihua.core.errors import InputError
from baihua.data.clean.contract import Drop, Keep, RowView
from baihua.data.clean.grams import grams, normalise
from baihua.data.formats.questions import texts_in
from baihua.data.read.files import STARTER, find_files
from baihua.data.read.records import read_objects


def _find(name: str, info: ValidationInfo) -> str:
    located_name = name if name.startswith(STARTER) else located(name, info)
    find_files([located_name])
    return located_name


class Config(Base):
    """Which questions must not be in the data, and how near a row may come to one."""

    kind: Literal["decontaminate"] = "decontaminate"
    """The name of this filter."""
    files: list[Annotated[str, AfterValidator(_find)]] = content()
    """Evaluation files, folders or patterns, from the recipe's folder."""
    columns: list[str] = Field(default=["question", "text", "prompt", "instruction", "turns"], min_length=1)
    """Keys whose text, list of texts or list of messages holds questions; a record may have any of them."""
    ngram: int = Field(default=8, ge=2, le=50)
    """Characters in a row that are compared, of letters and digits only; a shorter question must match whole."""
    maximum_overlap: float = Field(default=0.5, gt=0, le=1)
    """Share of a question's n-grams, above 0 to 1, from which on a row that holds them goes."""


EXAMPLE = Config(files=["starter:open_qa"], columns=["messages"])
KEPT = [[Message("user", "酒精的化学式是什么？"), Message("assistant", "C2H5OH。")]]
DROPPED = [[Message("user", "请问，水的化学式是什么呢？"), Message("assistant", "H2O。")]]


@dataclass(frozen=True, slots=True)
class Questions:
    """Evaluation questions: what to call each, how many n-grams it has, and which questions have an n-gram."""

    labels: list[str]
    num_grams: list[int]
    holders: dict[str, list[int]]


def fingerprint(config: Config) -> list[str]:
    """SHA-256 of each evaluation file, in order."""
    return [artifact.hash_file(file) for file in find_files(config.files)]


def check_row(row: RowView, config: Config) -> Keep | Drop:
    """Drop a row with a question (or document) that holds most of an evaluation question."""
    questions = _read_questions(tuple(config.files), tuple(config.columns), config.ngram)
    for message in row.messages:
        if message.role in ("system", "assistant"):
            continue
        nearest = _find_nearest(normalise(message.text), questions, config.ngram)
        if nearest is not None and nearest[0] >= config.maximum_overlap:
            return Drop("contaminated", f"{nearest[0]:.0%} of {questions.labels[nearest[1]]}")
    return Keep()


def _find_nearest(text: str, questions: Questions, n: int) -> tuple[float, int] | None:
    """The largest share of a question's n-grams that a text holds, and the question's number."""
    # A text shorter than n is one gram, itself, which only an equally short question has: that is the whole match.
    shared = [holders for gram in grams(text, n) if (holders := questions.holders.get(gram))]
    counts = Counter(number for holders in shared for number in holders)
    shares = ((count / questions.num_grams[number], -number) for number, count in counts.items())
    share, number = max(shares, default=(0.0, 0))
    return (share, -number) if share else None


# Reading 1,000 questions takes a moment, which every row of every process would pay again.
@functools.cache
def _read_questions(files: tuple[str, ...], columns: tuple[str, ...], n: int) -> Questions:
    """The index of all questions; a file that holds none is an InputError."""
    questions = Questions([], [], {})
    for file in find_files(list(files)):
        num_before = len(questions.labels)
        for label, text in _read_texts(file, columns):
            _add(questions, label, grams(normalise(text), n))
        if len(questions.labels) == num_before:
            keys = ", ".join(columns)
            raise InputError(f"no question found under {keys}", where=str(file), fix="set `columns` to its keys")
    return questions


def _add(questions: Questions, label: str, found: set[str]) -> None:
    if not found:
        return
    for gram in found:
        questions.holders.setdefault(gram, []).append(len(questions.labels))
    questions.labels.append(label)
    questions.num_grams.append(len(found))


def _read_texts(file: Path, columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    # A record that cannot be read is an error: it could be the very question that the data holds.
    for number, (_, record) in enumerate(read_objects(file), start=1):
        for text in (text for column in columns for text in texts_in(record.get(column))):
            yield f"question {number} of {file.name}", text
