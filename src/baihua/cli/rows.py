"""A look into data: conversations with the trained part coloured, and dropped rows."""

import json
from dataclasses import asdict
from pathlib import Path

from baihua.chat.render import Template, render
from baihua.core import kinds
from baihua.core.errors import InputError
from baihua.data.rows import DROPPED_FILE, read_rows
from baihua.train.show import style_of

# Shown names of special tokens when no model is at hand to say its own.
CONTROLS = frozenset({"<|im_start|>", "<|im_end|>", "</s>"})


def print_rows(path: Path, *, count: int, template: str, as_json: bool) -> None:
    """The first rows of a data artifact, rendered as for training."""
    rows = read_rows(path)[:count]
    if as_json:
        items = [
            {"id": r.id, "source": r.source, "line": r.line, "messages": [asdict(m) for m in r.messages]} for r in rows
        ]
        print(json.dumps({"rows": items}, ensure_ascii=False))
        return
    from rich.console import Console

    jinja = kinds.find("baihua.chat.templates", template).JINJA
    frame = Template(template, jinja, CONTROLS, eos_token="</s>")
    console = Console(highlight=False)
    for row in rows:
        console.print(f"{row.id}  {row.file}:{row.line}  {row.group}", style="bold", markup=False)
        for span in render(row.messages, frame):
            console.print(
                span.text, style=style_of(is_trained=span.is_trained, is_control=span.is_control), markup=False, end=""
            )
        console.print()


def print_dropped(path: Path, *, reason: str, as_json: bool) -> None:
    """The rows that were dropped for one reason, with file and line."""
    import pyarrow.parquet as pq

    file = path / DROPPED_FILE
    if not file.is_file():
        raise InputError("this artifact dropped nothing: it has no dropped.parquet", where=str(path))
    records = pq.read_table(file).to_pylist()
    found = [record for record in records if record["reason"] == reason]
    if not found:
        known = sorted({record["reason"] for record in records})
        raise InputError(kinds.unknown(reason, known, what="reason"), where=str(file))
    if as_json:
        print(json.dumps({"dropped": found}, ensure_ascii=False))
        return
    for record in found:
        print(f"{record['file']}:{record['line']}  {record['detail']}\n    {record['row'][:200]}")
