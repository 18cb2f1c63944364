"""Import files of any format as conversations or documents."""

import shutil
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from baihua.core import artifact
from baihua.core.config import Base, content, execution, located
from baihua.core.kinds import OneOf
from baihua.core.stage import Input, Inputs, Metrics
from baihua.data.read.files import CATALOG, STARTER, check_name, find_files, find_origins, hub_address, is_path

VERSION = 2
INPUTS: dict[str, Input] = {}
OUTPUT = ("conversations", "documents")


def _find(name: str, info: ValidationInfo) -> str:
    name = located(name, info) if is_path(name) else name
    check_name(name)
    return name


class Config(Base):
    """Which files, and how to read them."""

    files: list[Annotated[str, AfterValidator(_find)]] = content()
    """Files, patterns; `starter:[CATEGORY]`, `catalog:NAME`, `hub:ORG/NAME[@REVISION][:PATH]`, `modelscope:`."""
    format: OneOf("baihua.data.formats") = Field(default={"kind": "auto"}, validate_default=True)  # type: ignore[valid-type]
    """How a record becomes a row; `kind` is a file of data/formats, or auto: detected from a file's first records."""
    source: str | None = Field(default=None, min_length=1)
    """The name that the rows carry, instead of their file's."""
    licence: str | None = None
    """The licence of these rows; it goes into the manifest of everything made from them."""
    bad_rows: Literal["stop", "drop"] = "stop"
    """Whether a record that cannot be used stops the stage, or is dropped, counted and kept in dropped.parquet."""
    keep: list[str] = Field(default=[])
    """Keys of a record (dotted below) that rows keep in `meta`, for a filter such as `column`."""
    columns: list[str] = Field(default=[])
    """Names of the columns of CSV and TSV files without a heading."""
    encoding: Literal["utf-8", "gb18030"] = "utf-8"
    """How the bytes of text files are read; gb18030 is also right for GBK and GB2312."""
    limit: int | None = Field(default=None, ge=1)
    """Read at most this many records, from the start."""
    cluster: str | None = execution(None)
    """Address of the Ray cluster to work on, `local` for one on this machine; see --cluster."""


def fingerprint(config: Config) -> list[str]:
    """SHA-256 of each file, in order, then the addresses on hubs."""
    remote = [name for name in config.files if not is_path(name) and not name.startswith(STARTER)]
    local = [name for name in config.files if name not in remote]
    # A catalogue's entry counts by the address that it is downloaded from, not by its name.
    addresses = [hub_address(name) if name.startswith(CATALOG) else name for name in remote]
    return [artifact.hash_file(file) for file in find_files(local)] + addresses


def run(config: Config, inputs: Inputs, out: Path) -> Metrics:
    """Write the rows and dropped.parquet; the counts add up."""
    from baihua.data.read.convert import convert, cut

    work, raw, stops = out / "work", out / "work" / "raw", config.bad_rows == "stop"
    origins = find_origins(config.files, work / "download", source=config.source, licence=config.licence)
    cut(origins, raw, kind=config.format.kind, **config.model_dump(include={"columns", "encoding", "limit"}))
    form = config.format.model_dump()
    counts = convert(raw, out, format=form, keep=config.keep, stops=stops, cluster=config.cluster)
    shutil.rmtree(work)
    return counts
