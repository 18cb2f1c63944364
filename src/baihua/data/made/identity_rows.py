"""Conversations about who the chatbot is, made from the templates in `data/made/identity`.

A template is a line `{"intent", "turns", "others", "contrast"}`: each turn is a list of wordings, user and assistant
in turn; every wording of the first turn becomes a conversation. `{name}` and `{maker}` stand for the chatbot's,
`{other}` for one of `others`. Contrast templates ask who somebody else is, and never name the chatbot. The templates
were written for this project and are in the public domain (CC0 1.0), as are the conversations made of them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from baihua.chat.types import Message
from baihua.chat.zh import HAN
from baihua.core.files import read_jsonl
from baihua.data.draw.hashed import hashed_number
from baihua.data.rows import Row, message_id, number_repeats, row_counts, write_no_dropped, write_rows

FOLDER = Path(__file__).parent / "identity"
LICENCE = "CC0-1.0"
PLACEHOLDER = re.compile(r"\{(name|maker|other)\}")
# Both ends of a filled-in name: names have no control characters. A border is an end at which Han and Latin meet.
MARK = "\0"
BORDER = re.compile(rf"(?<=[{HAN}]){MARK}(?=[A-Za-z0-9])|(?<=[A-Za-z0-9]){MARK}(?=[{HAN}])")

Language = Literal["zh", "en"]


@dataclass(frozen=True, slots=True)
class IdentityTemplate:
    """One line of a file: several first questions of one intent, and the turns that follow."""

    language: Language
    line: int
    intent: str
    turns: Sequence[Sequence[str]]
    others: Sequence[str] = ()
    contrast: bool = False


def write_identity(
    out: Path, *, name: str, maker: str, languages: Sequence[Language], num_answers: int, seed: int
) -> dict[str, Any]:
    """Write the conversations of some languages and an empty dropped.parquet; returns the metrics."""
    templates = [template for language in sorted(set(languages)) for template in read_templates(language)]
    rows = make_rows(templates, name=name, maker=maker, num_answers=num_answers, seed=seed)
    write_rows(rows, out)
    write_no_dropped(out)
    num_contrast = sum(map(is_contrast, rows))
    added = {"contrast": num_contrast, "identity": len(rows) - num_contrast}
    return row_counts(0, len(rows), added=added) | {
        "num_rows_by_source": {"identity": len(rows)},
        "sources": {"identity": {"licence": LICENCE, "num_rows": len(rows)}},
    }


def read_templates(language: Language) -> list[IdentityTemplate]:
    """All templates of a language."""
    return [IdentityTemplate(language, line, **record) for line, record in read_jsonl(FOLDER / f"{language}.jsonl")]


def make_rows(
    templates: Sequence[IdentityTemplate], *, name: str, maker: str, num_answers: int = 1, seed: int = 0
) -> list[Row]:
    """One row for each first question and each of `num_answers` draws of the following turns."""
    found = [row for template in templates for row in _rows_of(template, name, maker, num_answers, seed)]
    ids = number_repeats(row.id for row in found)
    return [replace(row, id=row_id) for row, row_id in zip(found, ids, strict=True)]


def is_contrast(row: Row) -> bool:
    """Whether a row made here is about somebody or something else."""
    return row.group.startswith("contrast-")


def _rows_of(template: IdentityTemplate, name: str, maker: str, num_answers: int, seed: int) -> Iterator[Row]:
    # "Are you X?" must not be denied by X itself, nor by a name that contains X.
    others = [other for other in template.others if not any(_overlap(other, own) for own in (name, maker))]
    if template.others and not others:
        return
    # All wordings of one intent, in both languages, belong on the same side of a split.
    group = f"{'contrast' if template.contrast else 'identity'}-{template.intent}"
    file, meta = f"{template.language}.jsonl", {"language": template.language, "licence": LICENCE}
    for question in template.turns[0]:
        for draw in range(num_answers):
            key = f"{seed}:{template.language}:{question}"
            names = {"name": name, "maker": maker, "other": _choose(others, key, draw) if others else ""}
            later = [_choose(turn, f"{key}:{place}", draw) for place, turn in enumerate(template.turns[1:])]
            messages = tuple(_message(place, text, names) for place, text in enumerate([question, *later]))
            yield Row(message_id(messages), messages, "identity", file, template.line, group=group, meta=meta)


def _choose(wordings: Sequence[str], key: str, draw: int) -> str:
    """A wording that the key determines; the next draw gives the next one."""
    return wordings[(hashed_number(f"identity:{key}") + draw) % len(wordings)]


def _message(place: int, text: str, names: Mapping[str, str]) -> Message:
    """A turn with the names filled in. Answers have a space between Han and Latin; people who ask rarely type it."""
    filled = PLACEHOLDER.sub(lambda found: f"{MARK}{names[found[1]]}{MARK}", text)
    if place % 2 == 1:
        filled = BORDER.sub(" ", filled)
    return Message("assistant" if place % 2 else "user", filled.replace(MARK, ""))


def _overlap(one: str, other: str) -> bool:
    one, other = one.casefold(), other.casefold()
    return one in other or other in one
