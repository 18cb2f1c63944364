"""Rows of a data artifact, kept or dropped, and prompts: conversations as a model reads them, in colour."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console

from baihua.backends.choose import open_template
from baihua.chat.render import Template, encode, render
from baihua.chat.template import OWN, TEMPLATES
from baihua.chat.types import Span
from baihua.cli.options import print_json
from baihua.core import kinds
from baihua.core.errors import InputError
from baihua.core.files import read_jsonl
from baihua.data.formats.messages import read_messages
from baihua.data.rows import DROPPED_FILE, find_table, holds_documents, read_rows, read_values
from baihua.train.examples.preview import style_of


def print_rows(path: Path, *, count: int, template: str, as_json: bool) -> None:
    """The first rows of a data artifact, rendered as for training; documents as they are."""
    kind = kinds.find(TEMPLATES, template)
    # There is no model here, so the control tokens are those of the models that the template comes from.
    controls = {"bos_token": kind.CONTROLS[0], "eos_token": kind.CONTROLS[-1]}
    frame = Template(template, kind.JINJA, frozenset(kind.CONTROLS), **controls)
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
    for row in rows:
        heading = f"{row.id}  {row.file}:{row.line}  {row.group}"
        _print_spans(heading, render(row.messages, frame), is_training=True)


def print_prompts(model: Path, file: Path, *, as_json: bool) -> None:
    """For each conversation of a JSON Lines file, what the model reads before its answer; no weights are loaded."""
    tokenizer, template = open_template(OWN, model)
    found: list[tuple[list[Span], list[int]]] = []
    for number, row in read_jsonl(file):
        spans = render(read_messages(row, where=f"{file}:{number}"), template, for_answer=True)
        found.append((spans, encode(spans, tokenizer).ids))
    if as_json:
        items = [{"prompt": "".join(s.text for s in spans), "num_tokens": len(ids), "ids": ids} for spans, ids in found]
        print_json({"template": template.name, "prompts": items})
        return
    for spans, ids in found:
        _print_spans(f"{len(ids):,} tokens", spans, is_training=False)


def _print_spans(heading: str, spans: Iterable[Span], *, is_training: bool) -> None:
    """Rendered text with control tokens, and in training the trained parts, in colour."""
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(heading, style="bold")
    for span in spans:
        style = style_of(is_trained=is_training and span.is_trained, is_control=span.is_control)
        # Soft wrapping: a line break on the screen must be one of the template.
        console.print(span.text, style=style, soft_wrap=True, end="")
    console.print()


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
        what = "this artifact dropped nothing: it has no dropped.parquet"
        raise InputError(what, where=str(path), fix="check the path")
    found = pq.read_table(file, filters=[("reason", "=", reason)]).to_pylist()
    if not found:
        known = sorted(pq.read_table(file, columns=["reason"])["reason"].unique().to_pylist())
        raise InputError(kinds.unknown(reason, known, what="reason"), where=str(file))
    if as_json:
        print_json({"dropped": found})
        return
    for record in found:
        print(f"{record['file']}:{record['line']}  {record['detail']}\n    {record['row'][:200]}")
