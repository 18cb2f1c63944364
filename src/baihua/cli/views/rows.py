"""Rows of a data artifact: conversations with their trained parts in colour, documents, and dropped rows."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console

from baihua.chat.render import Span, Template, render
from baihua.chat.template import TEMPLATES
from baihua.cli.options import print_json
from baihua.core import kinds
from baihua.core.errors import InputError
from baihua.data.rows import DROPPED_FILE, find_table, holds_documents, read_rows, read_values
from baihua.train.examples.preview import style_of


def print_rows(path: Path, *, count: int, template: str, as_json: bool) -> None:
    """The first rows of a data artifact, rendered as for training; documents as they are."""
    frame = _open_template(template)
    file = find_table(path)
    if holds_documents(file):
        _print_documents(read_values(file, limit=count), as_json=as_json)
        return
    rows = read_rows(path, limit=count)
    if as_json:
        items = [
            {"id": r.id, "source": r.source, "line": r.line, "messages": [asdict(m) for m in r.messages]} for r in rows
        ]
        print_json({"rows": items})
        return
    console = Console(highlight=False, markup=False, emoji=False)
    for row in rows:
        console.print(f"{row.id}  {row.file}:{row.line}  {row.group}", style="bold")
        print_spans(console, render(row.messages, frame), is_training=True)


def print_spans(console: Console, spans: Iterable[Span], *, is_training: bool) -> None:
    """Rendered text with control tokens, and in training the trained parts, in colour."""
    for span in spans:
        style = style_of(is_trained=is_training and span.is_trained, is_control=span.is_control)
        # Soft wrapping: a line break on the screen must be one of the template.
        console.print(span.text, style=style, soft_wrap=True, end="")
    console.print()


def _open_template(name: str) -> Template:
    """A template with the control tokens of the models that it comes from, since there is no model here."""
    kind = kinds.find(TEMPLATES, name)
    return Template(name, kind.JINJA, frozenset(kind.CONTROLS), bos_token=kind.CONTROLS[0], eos_token=kind.CONTROLS[-1])


def _print_documents(records: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json({"rows": [{name: one[name] for name in ("id", "source", "line", "text")} for one in records]})
        return
    for record in records:
        print(f"{record['id']}  {record['file']}:{record['line']}\n{record['text']}\n")


def print_dropped(path: Path, *, reason: str, as_json: bool) -> None:
    """The rows that were dropped for one reason, with file and line."""
    file = path / DROPPED_FILE
    if not file.is_file():
        raise InputError(
            "this artifact dropped nothing: it has no dropped.parquet", where=str(path), fix="check the path"
        )
    found = pq.read_table(file, filters=[("reason", "=", reason)]).to_pylist()
    if not found:
        known = sorted(pq.read_table(file, columns=["reason"])["reason"].unique().to_pylist())
        raise InputError(kinds.unknown(reason, known, what="reason"), where=str(file))
    if as_json:
        print_json({"dropped": found})
        return
    for record in found:
        print(f"{record['file']}:{record['line']}  {record['detail']}\n    {record['row'][:200]}")
