"""Questions to ask a model, from the sets that measure models: BELLE, Vicuna, MT-bench, AlignBench.

    {"question", "std_answer", "class"}                           BELLE
    {"question_id", "text", "category"}                           Vicuna
    {"question_id", "category", "turns": [...], "reference"}      MT-bench
    {"question_id", "category", "subcategory", "question", "reference"}   AlignBench

As a format, a draft is the question alone. A set of several turns has all of them in its meta as `turns`: the next
question can only be asked when the one before has been answered. `read_questions` reads a set's file to ask it.
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from baihua.chat.types import Message
from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.core.files import is_mapping, is_sequence
from baihua.data.drafts import Bad, Draft, has_texts, optional_text, wrong_value
from baihua.data.read.records import read_objects

EXAMPLE = {"question": "中国的首都是哪里？", "std_answer": "北京", "class": "open qa"}

QUESTION_KEYS = ("question", "text", "turns")
CATEGORY_KEYS = ("class", "category")
REFERENCE_KEYS = ("std_answer", "reference")
# The keys under which `read_questions` looks for questions, those of instruction data included.
ASKING_KEYS = ("text", "question", "instruction", "prompt", "turns")
ID_KEYS = ("question_id", "id")


class Config(Base):
    """A question, its category and a reference answer; keys that are not given are searched for."""

    kind: Literal["questions"] = "questions"
    """The name of this format."""
    question: str | None = None
    """The key of the question or the list of questions; by default the first of question, text and turns."""
    category: str | None = None
    """The key of the category, which a record may lack; by default the first of class and category."""
    reference: str | None = None
    """The key of a reference answer, which a record may lack; by default the first of std_answer and reference."""


def fits(record: dict[str, Any]) -> bool:
    """Whether there is a question in the layout of one of the known sets."""
    is_listed = "question_id" in record and has_texts(record, "category")
    return has_texts(record, "question", "std_answer") or (
        is_listed and any(_read_texts(record.get(key)) for key in QUESTION_KEYS)
    )


def convert(record: dict[str, Any], config: Config) -> list[Draft]:
    """The question of a record, with its id, category and reference as meta."""
    keys = (config.question,) if config.question else QUESTION_KEYS
    turns = next((texts for key in keys if (texts := _read_texts(record.get(key)))), None)
    if turns is None:
        raise wrong_value(record, *keys, expected="a question")
    if not all(turn.strip() for turn in turns):
        raise Bad("empty_text", "the question is blank")
    categories = [optional_text(record, key) for key in ((config.category,) if config.category else CATEGORY_KEYS)]
    meta = {
        "question_id": record.get("question_id"),
        "category": normalise_category(next(filter(None, categories), "")),
        "subcategory": normalise_category(optional_text(record, "subcategory")),
        "reference": _read_reference(record, (config.reference,) if config.reference else REFERENCE_KEYS),
        "turns": turns if len(turns) > 1 else None,
    }
    given = {key: value for key, value in meta.items() if value not in (None, "")}
    return [Draft([Message("user", turns[0])], meta=given, is_answered=False)]


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a set."""

    id: str
    """As the set has it, otherwise 16 hex digits of the SHA-256 of its first text."""
    texts: tuple[str, ...]
    """What is asked, turn by turn; the next text is asked when the one before has been answered."""
    category: str | None = None
    reference: str | list[str] | None = None
    """A reference answer; for several turns one each."""

    @property
    def text(self) -> str:
        """The first turn."""
        return self.texts[0]


def read_questions(file: Path) -> list[Question]:
    """The questions of a set's file, of any kind that import_data reads, or plain text with one on each line.

    The question is the first text among ASKING_KEYS. An InputError names FILE:LINE of a record that cannot be read or
    asks nothing, and a file without questions or with two of the same id.
    """
    questions: dict[str, Question] = {}
    for line, record in read_objects(file):
        where = f"{file}:{line}"
        question = _question(record, where=where)
        if question.id in questions:
            raise InputError(f"two questions have the id {question.id!r}", where=where, fix="give each its own `id`")
        questions[question.id] = question
    if not questions:
        raise InputError("the file has no questions", where=str(file), fix="write one on each line")
    return list(questions.values())


def texts_in(value: Any) -> list[str]:
    """What a value asks: its text, its texts, or the texts of the user among its messages."""
    if isinstance(value, str):
        return [value]
    if is_mapping(value):
        return texts_in(value.get("content")) if value.get("role") == "user" else []
    return [text for item in value for text in texts_in(item)] if is_sequence(value) else []


def normalise_category(name: str) -> str:
    """One spelling of a category's name: `closed QA`, even with a no-break space, is `closed qa`."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _question(record: dict[str, Any], *, where: str) -> Question:
    asked = ([text.strip() for text in texts_in(record.get(key)) if text.strip()] for key in ASKING_KEYS)
    texts = next(filter(None, asked), None)
    if texts is None:
        fix = f"put it under one of {', '.join(ASKING_KEYS)}"
        raise InputError("this record has no question", where=where, fix=fix)
    try:
        reference = _read_reference(record, REFERENCE_KEYS)
    except Bad as error:
        raise InputError(error.detail, where=where, fix="correct or remove the reference answer") from error
    named = next((str(record[key]) for key in ID_KEYS if record.get(key) is not None), None)
    category = next((str(record[key]) for key in CATEGORY_KEYS if record.get(key) is not None), None)
    return Question(named or hashlib.sha256(texts[0].encode()).hexdigest()[:16], tuple(texts), category, reference)


def _read_texts(value: Any) -> list[str]:
    """One text or several as a list; anything else is an empty one."""
    texts = value if isinstance(value, list) else [value]
    return texts if all(isinstance(text, str) for text in texts) else []


def _read_reference(record: dict[str, Any], keys: Sequence[str]) -> str | list[str] | None:
    """A reference as it stands, one per turn where there are several; None where all are blank."""
    value = next((record[key] for key in keys if record.get(key)), None)
    if value is None:
        return None
    if not (texts := _read_texts(value)):
        raise wrong_value(record, *keys, expected="a reference answer")
    return value if any(text.strip() for text in texts) else None
