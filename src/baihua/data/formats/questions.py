"""Questions to ask a model, of the sets that measure models: BELLE, Vicuna, MT-bench, AlignBench.

    {"question", "std_answer", "class"}                           BELLE
    {"question_id", "text", "category"}                           Vicuna
    {"question_id", "category", "turns": [...], "reference"}      MT-bench
    {"question_id", "category", "subcategory", "question", "reference"}   AlignBench

A draft is the question alone. What follows in a set of several turns is in its meta as `turns`, all of them:
the next question can only be put when the first has been answered.
"""

import unicodedata
from typing import Any, Literal

from baihua.chat.types import Message
from baihua.core.config import Base
from baihua.data.formats.text import explain, find_wrong_text
from baihua.data.rows import Bad, Draft

EXAMPLE = {"question": "中国的首都是哪里？", "std_answer": "北京", "class": "open qa"}
HAS_ANSWERS = False

QUESTION_KEYS = ("question", "text", "turns")
CATEGORY_KEYS = ("class", "category")
REFERENCE_KEYS = ("std_answer", "reference")


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
