"""Filter rows: each one is kept, changed or dropped with its reason."""

from pathlib import Path
from typing import Any

from pydantic import Field

from baihua.chat.template import TemplateName
from baihua.core.config import Base, execution
from baihua.core.kinds import OneOf
from baihua.core.stage import Input, Inputs, Metrics
from baihua.data.clean.contract import FILTERS, Filter

VERSION = 1
INPUTS = {
    "data": Input(("conversations", "documents")),
    "model": Input(("model",), is_required=False),
    "topics": Input(("inspection",), is_required=False),
}
OUTPUT = ("conversations", "documents")


class Config(Base):
    """The filters, in order."""

    filters: list[OneOf(FILTERS)] = Field(min_length=1)  # type: ignore[valid-type]
    """Filters in the order in which they run; the `kind` of each is a file of data/filters."""
    template: TemplateName = "model"
    """Chat template with which `split_long` counts tokens: `model` for that of the model, or one of ours."""
    cluster: str | None = execution(None)
    """Address of a Ray cluster to work on, `local` for one on this machine; see --cluster."""


def fingerprint(config: Config) -> list[Any]:
    """Hashes of the files that filters name, such as the evaluation sets of `decontaminate`."""
    opened = map(Filter, config.filters)
    return [item.fingerprint(item.config) for item in opened if item.fingerprint]


def run(config: Config, inputs: Inputs, out: Path) -> Metrics:
    """Write the kept rows and dropped.parquet; rows in + rows added = rows kept + rows dropped."""
    from baihua.data.clean.pipeline import clean

    tools = {role: str(path) for role, path in inputs.items()} | {"template": config.template}
    return clean(config.filters, tools, out, cluster=config.cluster)
