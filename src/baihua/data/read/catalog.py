"""Named data collections: their addresses, licences, known defects and the filters that repair them.

`catalog.yaml` holds the entries; `catalog:NAME` in a recipe's `files` names one.
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, StringConstraints

from baihua.core import kinds
from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.core.tables import Table

FILE = Path(__file__).with_name("catalog.yaml")
PREFIX = "catalog:"

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
HubId = Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]


class Tags(Base):
    """One word for each property of a collection; None where it is unknown."""

    language: Literal["EN", "CN", "EN/CN", "ML"] | None = None
    """English, Chinese, both, or many languages."""
    task: Literal["MT", "TS"] | None = None
    """Many tasks, or one."""
    generation: Literal["HG", "SI", "MIX", "COL"] | None = None
    """Written by people, by a model, by both, or collected from other sets."""

    @property
    def words(self) -> str:
        """The known properties in one line."""
        return " ".join(word for word in (self.language, self.task, self.generation) if word)


class Entry(Base):
    """One collection as its publishers describe it; unknown fields are absent."""

    title: Text
    """A description in one line."""
    kind: Literal["instructions", "dialogues", "text", "questions"]
    """The kind of its rows; questions are for evaluation, not for training."""
    hub: HubId | None = None
    """Its id among the data sets of the Hugging Face hub."""
    path: Text | None = None
    """The folder or file of the hub's repository that holds it; absent, the whole repository does."""
    modelscope: HubId | None = None
    """Its id among the data sets of ModelScope."""
    url: Annotated[str, StringConstraints(pattern=r"^https://\S+$")] | None = None
    """Its own page, or that of the collection that it comes from."""
    licence: Text | None = None
    """The licence that its publishers name."""
    num_rows: int | None = Field(default=None, ge=1)
    """Rows, at least 1."""
    languages: list[Language] = Field(min_length=1)
    """ISO 639 codes, `mul` for many."""
    tags: Tags = Tags()
    """Language, task and generation in short."""
    format: dict[str, Any] | None = None
    """The config of the format that reads it; absent where none is known to."""
    defects: list[Text] = Field(default=[])
    """Known problems, a sentence each."""
    filters: list[dict[str, Any]] = Field(default=[])
    """Configs of the filters that repair what can be repaired, in order."""


@functools.cache
def load() -> dict[str, Entry]:
    """Every collection by its name, sorted."""
    tree = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {name: Entry.model_validate(entry) for name, entry in sorted(tree.items())}


def find(name: str) -> Entry:
    """The collection of a name, with or without `catalog:`; an unknown one is an InputError with the nearest name."""
    wanted, entries = name.removeprefix(PREFIX), load()
    if wanted not in entries:
        what = kinds.unknown(wanted, list(entries), what="data collection")
        raise InputError(what, fix="`baihua show catalog` describes each")
    return entries[wanted]


def table(entries: Mapping[str, Entry]) -> Table:
    """A row of cells for each collection, sorted by name."""
    rows = [
        [name, one.kind, one.num_rows, one.tags.words, one.licence, one.hub or (one.url or "").removeprefix("https://")]
        for name, one in sorted(entries.items())
    ]
    return Table(["name", "kind", "rows", "tags", "licence", "where"], rows)


def show_one(name: str) -> str:
    """Everything known about one collection, with a recipe that imports and repairs it."""
    entry = find(name)
    facts = {
        "kind": entry.kind,
        "rows": f"{entry.num_rows:,}" if entry.num_rows else "unknown",
        "languages": ", ".join(entry.languages),
        "tags": entry.tags.words,
        "licence": entry.licence or "unknown: ask the publishers before you use it",
    } | entry.model_dump(include={"hub", "path", "modelscope", "url"})
    lines = [entry.title, "", *(f"{label:<12}{value}" for label, value in facts.items() if value)]
    if entry.defects:
        lines += ["", "Known defects", *(f"- {defect}" for defect in entry.defects)]
    tree = recipe(name.removeprefix(PREFIX), entry)
    if tree is None:
        return "\n".join([*lines, "", "No format is known to read it: convert it, or add a format (--extensions)."])
    text = yaml.safe_dump(tree, allow_unicode=True, sort_keys=False, default_flow_style=None, width=100)
    heading = "# A recipe that imports it" + " and repairs it" * bool(entry.filters)
    return "\n".join([*lines, "", heading, text.rstrip()])


def recipe(name: str, entry: Entry) -> dict[str, Any] | None:
    """A recipe that imports a collection and repairs it; None where no format is known to read it."""
    if entry.format is None:
        return None
    raw = {"stage": "import_data", "files": [PREFIX + name], "format": entry.format, "bad_rows": "drop"}
    clean = {"stage": "clean", "inputs": {"data": "raw"}, "filters": entry.filters}
    return {"name": name, "stages": {"raw": raw, "clean": clean} if entry.filters else {"raw": raw}}


def as_json(entries: Mapping[str, Entry]) -> str:
    """The collections as a JSON object by name; unknown fields are absent."""
    found = {name: entry.model_dump(exclude_none=True) for name, entry in sorted(entries.items())}
    return json.dumps(found, ensure_ascii=False)
