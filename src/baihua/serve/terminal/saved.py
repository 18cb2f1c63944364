"""Saved conversations: one row of JSON Lines with its messages, the format that training reads."""

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from baihua.chat.types import Message
from baihua.core.errors import InputError
from baihua.core.files import read_jsonl, write_jsonl
from baihua.data.formats.messages import read_messages

FORM = '{"messages": [{"role": "user", "content": "..."}]}'
WITH_LINE = re.compile(r"(?P<name>.+):(?P<line>[0-9]+)")


def save(messages: Sequence[Message], folder: Path, name: str = "") -> Path:
    """Write a conversation to a new file, and return its path."""
    wanted = folder / Path(name or f"chat-{datetime.now():%Y%m%d-%H%M%S}.jsonl").expanduser()
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        file = _reserve(wanted)
        write_jsonl(file, [{"messages": [_row(message) for message in messages]}])
    except OSError as error:
        raise InputError(
            f"cannot save: {error.strerror}", where=str(wanted), fix="choose another file: /save FILE"
        ) from error
    return file


def load(folder: Path, name: str) -> list[Message]:
    """The conversation in the first row of a file, or in the row of a line: FILE:12."""
    file, number = folder / Path(name).expanduser(), None
    if not file.exists() and (match := WITH_LINE.fullmatch(name)):
        file, number = folder / Path(match["name"]).expanduser(), int(match["line"])
    try:
        found = next(((line, row) for line, row in read_jsonl(file) if number in (None, line)), None)
    except OSError as error:
        fix = "give a file that /save wrote"
        raise InputError(f"cannot read the file: {error.strerror}", where=str(file), fix=fix) from error
    if found is None:
        what = "the file is empty" if number is None else f"line {number:,} of the file has no row"
        raise InputError(what, where=str(file), fix=f"the format is {FORM}")
    line, row = found
    return read_messages(row, where=f"{file}:{line}")


def _reserve(wanted: Path) -> Path:
    """Create `wanted`, or the first of wanted-2, wanted-3, ... that does not exist."""
    file, number = wanted, 1
    while True:
        try:
            # Conversations are private: only this user may read the file.
            file.touch(mode=0o600, exist_ok=False)
            return file
        except FileExistsError:
            number += 1
            file = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")


def _row(message: Message) -> dict[str, str]:
    row = {"role": message.role, "content": message.content}
    return row | {"input": message.input} if message.input else row
