"""Bits per character and per byte of given answers, comparable between models of any vocabulary."""

from pathlib import Path
from typing import Any

from pydantic import Field

from baihua.backends.choose import open_scorer, open_template
from baihua.chat.template import TemplateName
from baihua.core.config import Base, execution
from baihua.core.files import write_json
from baihua.core.log import logger
from baihua.core.stage import Input, Inputs, Metrics
from baihua.data.rows import read_rows
from baihua.model.examples import Encoder

VERSION = 1
INPUTS = {"model": Input(("model", "gguf")), "data": Input(("conversations",))}
OUTPUT = ("figures",)


class Config(Base):
    """The rows to measure, and their template."""

    template: TemplateName = "model"
    """Chat template: `model` for the model's own, or the name of one of ours."""
    label: str | None = execution(None)
    """A name for this measurement in reports."""
    max_length: int = Field(default=2048, ge=8)
    """Maximum tokens of a row; longer rows are truncated, and then vocabularies cannot be compared."""
    num_rows: int | None = Field(default=None, ge=1)
    """Rows to measure, from the first; all by default."""


def run(config: Config, inputs: Inputs, out: Path) -> Metrics:
    """Score every answer given its prompt; the figures are metrics and `bits.json`."""
    from baihua.model.compare import measure_bits

    rows = read_rows(inputs["data"])[: config.num_rows]
    encoder = Encoder(*open_template(config.template, inputs["model"]))
    examples = [encoder.cut(encoder.encode(row.id, row.messages), config.max_length) for row in rows]
    num_cut = sum(example.is_cut for example in examples)
    if num_cut:
        logger.warning(
            "%d of %d rows were truncated at %d tokens: compare these figures only with models of the same vocabulary "
            "(raise `max_length` to measure whole rows)",
            *(num_cut, len(rows), config.max_length),
        )
    measured = measure_bits(examples, open_scorer(inputs["model"]).log_probs)
    figures: dict[str, Any] = {
        "bits_per_char": measured.answers.per_char,
        "bits_per_byte": measured.answers.per_byte,
        "num_chars": measured.answers.num_chars,
        "num_bytes": measured.answers.num_bytes,
        "bits_per_char_everything": measured.everything.per_char,
        "bits_per_byte_everything": measured.everything.per_byte,
        "num_chars_everything": measured.everything.num_chars,
        "num_rows": len(rows),
        "num_rows_cut": num_cut,
    }
    write_json(out / "bits.json", figures | {"label": config.label})
    return figures
