"""Read files of any format into conversations, or documents."""

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from baihua.core import artifact
from baihua.core.config import Base, content, execution, located
from baihua.core.kinds import OneOf
from baihua.core.stage import Input
from baihua.data.read.files import CATALOG, STARTER, Origin, catalogued, check_name, find_files, find_origins, is_path

VERSION = 2
INPUTS: dict[str, Input] = {}
OUTPUT = ("conversations", "documents")


def _find(name: str, info: ValidationInfo) -> str:
    located_name = located(name, info) if is_path(name) else name
    check_name(located_name)
    return located_name


class Config(Base):
    """Which files, and how to read them."""

    files: list[Annotated[str, AfterValidator(_find)]] = content()
    """Files, patterns; `starter:[CATEGORY]`, `catalog:NAME`, `hub:ORG/NAME[@REVISION][:PATH]`, `modelscope:`."""
    format: OneOf("baihua.data.formats") = Field(default={"kind": "auto"}, validate_default=True)  # type: ignore[valid-type]
    """How a record becomes a row; `kind` is a file of data/formats, or auto: told from each file's first records."""
    source: str | None = Field(default=None, min_length=1)
    """The name that the rows carry, instead of their file's."""
    licence: str | None = None
    """The licence of these rows; it goes into the manifest of everything that is made of them."""
    bad_rows: Literal["stop", "drop"] = "stop"
    """Whether a row that cannot be used stops the stage or is dropped, counted and kept in dropped.parquet."""
    keep: list[str] = Field(default=[])
    """Keys of a record (dotted below) that rows keep in `meta`, for a filter such as `column`."""
    columns: list[str] = Field(default=[])
    """Names of the columns of CSV and TSV files that have no heading."""
    encoding: Literal["utf-8", "gb18030"] = "utf-8"
    """How the bytes of text files are read; gb18030 is also right for GBK and GB2312."""
    limit: int | None = Field(default=None, ge=1)
    """Read at most this many records, from the start."""
    cluster: str | None = execution(None)
    """Address of a Ray cluster to work on, `local` for one of this machine; see --cluster."""


def fingerprint(config: Config) -> list[str]:
    """SHA-256 of each file, in order; the versioned name of what lies on a hub."""
    names = [name for name in config.files if not is_path(name) and not name.startswith(STARTER)]
    local = [name for name in config.files if name not in names]
    # A catalogue's entry counts by where it is fetched from, not by its name.
    addresses = [catalogued(name)[0] if name.startswith(CATALOG) else name for name in names]
    return [artifact.hash_file(file) for file in find_files(local)] + addresses


def run(config: Config, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Write the rows and dropped.parquet; the counts add up."""
    from baihua.data.read import reading
    from baihua.data.shards import publish
    from baihua.data.workers import Call, run_pieces

    work = out / "work"
    origins = [
        Origin(origin.files, config.source or origin.source, config.licence or origin.licence)
        for origin in find_origins(config.files, work / "download")
    ]
    found = reading.cut(
        origins,
        work / "raw",
        columns=config.columns,
        encoding=config.encoding,
        limit=config.limit,
        kind=config.format.kind,
    )
    arguments = {
        "files": str(work / "raw" / "raw.json"),
        "format": config.format.model_dump(),
        "keep": config.keep,
        "stops": config.bad_rows == "stop",
    }
    pieces = reading.pieces(work / "raw", work / "read", found["num_shards"])
    done = run_pieces(Call(reading.__name__, "read_piece", arguments), pieces, cluster=config.cluster)
    results = reading.check_usable(done, found)
    kept = publish([[piece.out for piece in pieces]], out, numbers_ids=True)
    shutil.rmtree(work)
    dropped = sum((Counter(result["dropped"]) for result in results), Counter())
    num_added = kept["num_rows_kept"] + dropped.total() - found["num_records"]
    return {
        "num_rows_in": found["num_records"],
        "num_rows_kept": kept["num_rows_kept"],
        "num_rows_dropped": dict(sorted(dropped.items())),
        "num_rows_changed": {},
        "num_rows_added": {"more_rows_per_record": num_added} if num_added else {},
        "num_chars": kept["num_chars"],
        "formats": dict(Counter(file["format"] or "unknown" for file in found["files"])),
        "sources": _sources(found["files"], kept["num_rows_by_source"]),
    }


def _sources(files: list[dict[str, Any]], counts: Mapping[str, int]) -> dict[str, Any]:
    licences = {file["source"]: file["licence"] for file in files}
    return {name: {"licence": licences[name], "num_rows": count} for name, count in counts.items()}
