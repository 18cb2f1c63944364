"""Filter rows: each one is kept, changed or dropped with its reason."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from baihua.chat.template import TemplateName
from baihua.core import kinds
from baihua.core.config import Base, execution
from baihua.core.errors import InputError
from baihua.core.kinds import OneOf
from baihua.core.stage import Input

VERSION = 1
INPUTS = {
    "data": Input(("conversations", "documents")),
    "model": Input(("model",), is_needed=False),
    "topics": Input(("inspection",), is_needed=False),
}
OUTPUT = ("conversations", "documents")
FILTERS = "baihua.data.filters"


class Config(Base):
    """Which filters, in order."""

    filters: list[OneOf("baihua.data.filters")] = Field(min_length=1)  # type: ignore[valid-type]
    """Filters in the order in which they run; the `kind` of each is a file of data/filters."""
    template: TemplateName = "model"
    """Chat template with which `split_long` counts tokens: `model` for the model's own, or one of ours."""
    cluster: str | None = execution(None)
    """Address of a Ray cluster to work on, `local` for one of this machine; see --cluster."""


def fingerprint(config: Config) -> list[Any]:
    """What the files hold that filters name, such as the evaluation sets of `decontaminate`."""
    modules = [(kinds.find(FILTERS, item.kind), item) for item in config.filters]
    return [module.fingerprint(item) for module, item in modules if "fingerprint" in vars(module)]


def run(config: Config, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Write the kept rows and dropped.parquet; rows in + rows added = rows kept + rows dropped."""
    from baihua.data.clean.pipeline import Tools, check_needs, run_filters
    from baihua.data.rows import find_table
    from baihua.data.shards import publish, sources_of

    model, topics = (str(inputs[role]) if role in inputs else None for role in ("model", "topics"))
    tools = Tools(model, topics, config.template)
    check_needs(config.filters, tools)
    sources = sources_of(find_table(inputs["data"]))
    if not sources:
        raise InputError(
            "there are no rows to clean",
            where=str(inputs["data"]),
            fix="the stage before dropped them all: baihua show PATH --stats says why",
        )
    work = out / "work"
    steps, counts = run_filters(sources, config.filters, work, tools=tools, cluster=config.cluster)
    kept = publish(steps, out)
    shutil.rmtree(work)
    return {
        "num_rows_in": kept["num_rows_kept"] + counts.dropped.total() - counts.added.total(),
        "num_rows_kept": kept["num_rows_kept"],
        "num_rows_dropped": dict(sorted(counts.dropped.items())),
        "num_rows_changed": dict(sorted(counts.changed.items())),
        "num_rows_added": dict(sorted(counts.added.items())),
        "num_chars": kept["num_chars"],
        "num_rows_by_source": kept["num_rows_by_source"],
    }
