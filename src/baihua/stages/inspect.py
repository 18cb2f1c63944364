"""Inspect data before training on it: figures, unusual rows, clusters of copies, and named topics."""

from dataclasses import asdict
from pathlib import Path

from pydantic import Field

from baihua.core.config import Base
from baihua.core.files import write_json
from baihua.core.stage import Input, Inputs, Metrics

VERSION = 1
INPUTS = {"data": Input(("conversations", "documents"))}
OUTPUT = ("inspection",)


class Config(Base):
    """The number of topics, and the seed for finding them."""

    num_topics: int = Field(default=20, ge=1, le=200)
    """Maximum number of topics; a set with fewer than ten rows per topic gets fewer."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Chooses the rows that topics are fitted on, and the initial centres."""


def run(config: Config, inputs: Inputs, out: Path) -> Metrics:
    """Write figures.json, topics.json, and topics.parquet with the topic of each row."""
    from baihua.data.inspect import figures, topics

    described = figures.describe(inputs["data"])
    found = topics.write_topics(inputs["data"], out, num_topics=config.num_topics, seed=config.seed)
    write_json(out / figures.FIGURES_FILE, asdict(described))
    write_json(out / topics.TOPICS_FILE, [asdict(topic) for topic in found])
    num_refusals = [topic.num_refusals for topic in found if topic.num_refusals is not None]
    return {
        "num_rows_in": described.num_rows,
        "num_rows_kept": described.num_rows,
        "num_rows_dropped": {},
        "num_rows_changed": {},
        "num_rows_added": {},
        "num_chars": described.num_chars,
        "mean_han_share": described.mean_han_share,
        "num_rows_by_script": described.scripts,
        "num_rows_by_language": described.languages,
        "num_sources": len(described.sources),
        "num_topics": len(found),
        "num_refusals": sum(num_refusals) if num_refusals else None,
    }
