"""A set of questions to walk through."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baihua.core.errors import InputError
from baihua.core.files import read_jsonl
from baihua.core.tree import is_mapping, is_sequence

TEXTS = ("text", "question", "instruction", "prompt")
IDS = ("question_id", "id")


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a set; what it calls itself, or a hash of its text."""

    id: str
    category: str | None
    text: str


def read_questions(file: Path) -> list[Question]:
    """Questions of a file: JSON lines or a JSON list with `text`, `question`, `instruction`, `prompt` or the first of
    `turns`, or plain text with one a line; an InputError names the row that has none.
    """
    if not file.is_file():
        raise InputError("there is no such file", where=str(file), fix="give a file of questions")
    questions = [_question(row, where=f"{file}:{number}") for number, row in _rows(file)]
    if not questions:
        raise InputError("there is no question in it", where=str(file), fix="write one on each line")
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise InputError(f"two questions are called {question.id!r}", where=str(file), fix="give each its own `id`")
        seen.add(question.id)
    return questions


def _rows(file: Path) -> Iterable[tuple[int, dict[str, Any]]]:
    if file.suffix == ".jsonl":
        return read_jsonl(file)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"the file is not UTF-8: {error.reason}", where=str(file), fix="convert it") from error
    if file.suffix != ".json":
        return ((number, {"text": line}) for number, line in enumerate(text.splitlines(), 1) if line.strip())
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        # Some sets have JSON lines under this name.
        return read_jsonl(file)
    if not is_sequence(found):
        raise InputError("this is no list of questions", where=str(file), fix='write [{"text": "..."}, ...]')
    return enumerate(found, 1)


def _question(row: Mapping[str, Any], *, where: str) -> Question:
    if not is_mapping(row):
        raise InputError("this is no question", where=where, fix='write {"text": "..."}')
    turns = row.get("turns")
    texts = [row.get(name) for name in TEXTS] + ([turns[0]] if is_sequence(turns) and turns else [])
    text = next((one.strip() for one in texts if isinstance(one, str) and one.strip()), None)
    if text is None:
        raise InputError("this row has no question", where=where, fix=f"name it {', '.join(TEXTS)} or turns")
    named = next((str(row[name]) for name in IDS if row.get(name) is not None), None)
    category = row.get("category")
    return Question(
        named or hashlib.sha256(text.encode()).hexdigest()[:16], None if category is None else str(category), text
    )
