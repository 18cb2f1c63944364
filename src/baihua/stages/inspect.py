"""Look at data before training on it: figures, odd rows, clusters of copies, and topics with names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from baihua.core.config import Base
from baihua.core.stage import Input

VERSION = 1
INPUTS = {"data": Input(("conversations", "documents"))}
OUTPUT = ("inspection",)


class Config(Base):
    """How finely rows are sorted into topics."""

    num_topics: int = Field(default=20, ge=1, le=200)
    """Topics at most; a set of fewer than ten rows a topic gets fewer."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Which draw of rows the topics are fitted on, and where the search for them begins."""


def run(config: Config, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Write figures.json, topics.json and, for each row's id its topic, topics.parquet."""
    from dataclasses import asdict

    from baihua.core.files import write_json
    from baihua.data.inspect.figures import FIGURES_FILE, describe
    from baihua.data.inspect.topics import TOPICS_FILE, write_topics

    figures = describe(inputs["data"])
    topics = write_topics(inputs["data"], out, num_topics=config.num_topics, seed=config.seed)
    write_json(out / FIGURES_FILE, asdict(figures))
    write_json(out / TOPICS_FILE, [asdict(topic) for topic in topics])
    num_refusals = [topic.num_refusals for topic in topics if topic.num_refusals is not None]
    return {
        "num_rows_in": figures.num_rows,
        "num_rows_kept": figures.num_rows,
        "num_rows_dropped": {},
        "num_rows_changed": {},
        "num_rows_added": {},
        "num_chars": figures.num_chars,
        "mean_han_share": figures.mean_han_share,
        "num_rows_by_script": figures.scripts,
        "num_rows_by_language": figures.languages,
        "num_sources": len(figures.sources),
        "num_topics": len(topics),
        "num_refusals": sum(num_refusals) if num_refusals else None,
    }
