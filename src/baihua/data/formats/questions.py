"""Questions to ask a model, of the sets that measure models: BELLE, Vicuna, MT-bench, AlignBench.

    {"question", "std_answer", "class"}                           BELLE
    {"question_id", "text", "category"}                           Vicuna
    {"question_id", "category", "turns": [...], "reference"}      MT-bench
    {"question_id", "category", "subcategory", "question", "reference"}   AlignBench

A draft is the question alone. What follows in a set of several turns is in its meta as `turns`, all of them:
the next question can only be put when the first has been answered.
"""

import hashlib
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from baihua.chat.types import Message
from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.core.tree import is_mapping, is_sequence
from baihua.data.formats.text import explain, find_wrong_text
from baihua.data.read.records import read_objects
from baihua.data.rows import Bad, Draft

EXAMPLE = {"question": "中国的首都是哪里？", "std_answer": "北京", "class": "open qa"}
HAS_ANSWERS = False

QUESTION_KEYS = ("question", "text", "turns")
CATEGORY_KEYS = ("class", "category")
REFERENCE_KEYS = ("std_answer", "reference")
# Where a question may be in a set that only asks: those of this format, and the questions of instruction data.
ASKING_KEYS = ("text", "question", "instruction", "prompt", "turns")
ID_KEYS = ("question_id", "id")


class Config(Base):
    """A question, its category and a reference answer; a key that is not given is found."""

    kind: Literal["questions"] = "questions"
    """The name of this format."""
    question: str | None = None
    """The key of the question or the list of questions; by default the first of question, text and turns."""
    category: str | None = None
    """The key of the category, which a record may lack; by default the first of class and category."""
    reference: str | None = None
    """The key of a reference answer, which a record may lack; by default the first of std_answer and reference."""


def fits(record: dict[str, Any]) -> bool:
    """Whether there is a question as one of the known sets has it."""
    if find_wrong_text(record, ("question", "std_answer")) is None:
        return True
    is_listed = "question_id" in record and isinstance(record.get("category"), str)
    return is_listed and any(_read_texts(record.get(key)) for key in QUESTION_KEYS)


def convert(record: dict[str, Any], config: Config) -> list[Draft] | Bad:
    """The question of a record, with its id, category and reference beside it."""
    keys = (config.question,) if config.question else QUESTION_KEYS
    turns = next((texts for key in keys if (texts := _read_texts(record.get(key)))), None)
    if turns is None:
        return Bad("no_text", explain(record, keys, wanted="a question"))
    if not all(turn.strip() for turn in turns):
        return Bad("empty_text", "the question is blank")
    meta = _read_meta(record, config)
    if isinstance(meta, Bad):
        return meta
    return [Draft([Message("user", turns[0])], meta=meta | ({"turns": turns} if len(turns) > 1 else {}))]


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a set."""

    id: str
    """As the set has it, otherwise 16 hex digits of the SHA-256 of its first text."""
    texts: tuple[str, ...]
    """What is asked, turn by turn; the next one is asked when the one before has been answered."""
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
        question = _question(record, where=f"{file}:{line}")
        if question.id in questions:
            raise InputError(
                f"two questions have the id {question.id!r}", where=f"{file}:{line}", fix="give each its own `id`"
            )
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


def _question(record: dict[str, Any], *, where: str) -> Question:
    asked = ([text.strip() for text in texts_in(record.get(key)) if text.strip()] for key in ASKING_KEYS)
    texts = next(filter(None, asked), None)
    if texts is None:
        raise InputError(
            "this record has no question", where=where, fix=f"put it under one of {', '.join(ASKING_KEYS)}"
        )
    reference = _read_reference(record, REFERENCE_KEYS)
    return Question(
        next((str(record[key]) for key in ID_KEYS if record.get(key) is not None), _hash(texts[0])),
        tuple(texts),
        next((str(record[key]) for key in CATEGORY_KEYS if record.get(key) is not None), None),
        None if isinstance(reference, Bad) else reference,
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def normalise_category(name: str) -> str:
    """A category's name as sets spell it in different ways: `closed QA`, also with a no-break space, is `closed qa`."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _read_texts(value: Any) -> list[str]:
    """One text or several as a list; anything else is an empty one."""
    texts = value if isinstance(value, list) else [value]
    return texts if all(isinstance(text, str) for text in texts) else []


def _read_meta(record: dict[str, Any], config: Config) -> dict[str, Any] | Bad:
    category_keys = (config.category,) if config.category else CATEGORY_KEYS
    wrong = find_wrong_text(record, (), (*category_keys, "subcategory"))
    reference = wrong or _read_reference(record, (config.reference,) if config.reference else REFERENCE_KEYS)
    if isinstance(reference, Bad):
        return reference
    category = next((record[key] for key in category_keys if record.get(key)), "")
    meta = {
        "question_id": record.get("question_id"),
        "category": normalise_category(category),
        "subcategory": normalise_category(record.get("subcategory") or ""),
        "reference": reference,
    }
    return {key: value for key, value in meta.items() if value not in (None, "")}


def _read_reference(record: dict[str, Any], keys: tuple[str, ...]) -> str | list[str] | Bad | None:
    """A reference as it stands, one per turn where there are several; None where all are blank."""
    value = next((record[key] for key in keys if record.get(key)), None)
    if value is None:
        return None
    texts = _read_texts(value)
    if not texts:
        return Bad("no_text", explain(record, keys, wanted="a reference answer"))
    return value if any(text.strip() for text in texts) else None
