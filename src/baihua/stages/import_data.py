"""Read files of any format into conversations."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from baihua.core import artifact, kinds
from baihua.core.config import Base, content, located
from baihua.core.kinds import OneOf
from baihua.core.stage import Input
from baihua.data.files import STARTER, find_files

VERSION = 1
INPUTS: dict[str, Input] = {}
OUTPUT = ("conversations",)


def _find(name: str, info: ValidationInfo) -> str:
    located_name = name if name.startswith(STARTER) else located(name, info)
    find_files([located_name])
    return located_name


class Config(Base):
    """Which files, and how to read them."""

    files: list[Annotated[str, AfterValidator(_find)]] = content()
    """Files, folders or patterns, from the recipe's folder; `starter:` or `starter:CATEGORY` for the shipped set."""
    format: OneOf("baihua.data.formats") = Field(default={"kind": "messages"}, validate_default=True)  # type: ignore[valid-type]
    """How a record becomes a conversation; `kind` is a file of data/formats."""
    bad_rows: Literal["stop", "drop"] = "stop"
    """Whether a row that cannot be used stops the stage or is dropped, counted and kept in dropped.parquet."""
    limit: int | None = Field(default=None, ge=1)
    """Read at most this many records, from the start."""


def fingerprint(config: Config) -> list[str]:
    """SHA-256 of each file, in order."""
    return [artifact.hash_file(file) for file in find_files(config.files)]


def run(config: Config, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Write conversations.parquet and dropped.parquet; the counts add up."""
    from collections import Counter

    from baihua.data.reading import read_files
    from baihua.data.rows import write_dropped, write_rows

    module = kinds.find("baihua.data.formats", config.format.kind)
    rows = read_files(
        find_files(config.files),
        lambda record: module.convert(record, config.format),
        bad_rows=config.bad_rows,
        limit=config.limit,
    )
    write_rows(rows.kept, out)
    write_dropped(rows.dropped, out)
    num_added = len(rows.kept) + len(rows.dropped) - rows.num_records
    return {
        "num_rows_in": rows.num_records,
        "num_rows_kept": len(rows.kept),
        "num_rows_dropped": dict(sorted(Counter(row.reason for row in rows.dropped).items())),
        "num_rows_changed": {},
        "num_rows_added": {"second_language": num_added} if num_added else {},
        "num_chars": sum(len(m.content) + len(m.input or "") for row in rows.kept for m in row.messages),
    }
