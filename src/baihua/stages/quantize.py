"""Write a model as GGUF files, one per level, and prove that f16 says what the model says."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from baihua.core.config import Base
from baihua.core.stage import Input

VERSION = 1
INPUTS = {"model": Input(("model",)), "data": Input(("conversations",), is_needed=False)}
OUTPUT = ("gguf",)


class Config(Base):
    """Which levels to write."""

    levels: list[str] = Field(default=["f16", "q8_0"], min_length=1)
    """GGUF levels: f32, f16, bf16, q8_0."""
    num_texts: int = Field(default=50, ge=1)
    """Conversations of `data`, from its first, on which the f16 file is compared with the model."""


def run(config: Config, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Write `model-LEVEL.gguf` and a Modelfile; fails if the f16 file disagrees with the model."""
    from baihua.compress.quantize import quantize

    levels = quantize(inputs["model"], out, config.levels)
    return {"levels": levels} | (_compare(config, inputs, out) if "f16" in config.levels else {})


def _compare(config: Config, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    from baihua.backends.choose import open_scorer
    from baihua.data.rows import read_rows
    from baihua.model.parity import check_parity, compare
    from baihua.model.parity_texts import encode_texts

    rows = read_rows(inputs["data"])[: config.num_texts] if "data" in inputs else []
    texts = encode_texts(inputs["model"], [row.messages for row in rows])
    parity = compare(open_scorer(inputs["model"]).log_probs, open_scorer(out / "model-f16.gguf").log_probs, texts)
    check_parity(parity, what="the f16 GGUF differs from the model")
    return asdict(parity)
