"""Merge adapters into their base model, and check that each result predicts what base and adapter predict."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from baihua.core.config import Base
from baihua.core.stage import Input, Inputs, Metrics
from baihua.data.rows import read_rows

VERSION = 2
ADAPTERS = ("adapter", "adapter_2", "adapter_3")
INPUTS = {
    "model": Input(("model",)),
    "adapter": Input(("adapter",)),
    "adapter_2": Input(("adapter",), is_required=False),
    "adapter_3": Input(("adapter",), is_required=False),
    "data": Input(("conversations",), is_required=False),
}
OUTPUT = ("model",)


class Config(Base):
    """Writing and checking of the merged model. `adapter_2` is merged into the result of `adapter`, and so on."""

    num_texts: int = Field(default=50, ge=1)
    """Conversations of `data`, from the first, on which each merged model is compared with its base and adapter."""
    dtype: Literal["base", "float32", "bfloat16", "float16"] = "base"
    """Type of the written weights; `base` keeps the base's. Weights are merged in float32; rounding them to bfloat16
    (3 digits) or float16 (4 digits) shifts the predictions, which `mean_kl` shows."""


def run(config: Config, inputs: Inputs, out: Path) -> Metrics:
    """Write the merged model to `out`; the figures compare the worst of the merges with its base and adapter."""
    from baihua.compress.merge import merge_adapters

    adapters = {role: inputs[role] for role in ADAPTERS if role in inputs}
    texts = [row.messages for row in read_rows(inputs["data"])[: config.num_texts]] if "data" in inputs else []
    return merge_adapters(inputs["model"], adapters, out, conversations=texts, dtype=config.dtype)
