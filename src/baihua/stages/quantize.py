"""Write a model as GGUF files, one per level, and check that f16 predicts what the model predicts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from baihua.compress.fit import forecast
from baihua.core.config import Base, execution
from baihua.core.stage import Input, Inputs, Metrics
from baihua.modelfiles.folder import find_source
from baihua.train.plan.machines import TrainingMachine, known_shape

VERSION = 2
INPUTS = {"model": Input(("model", "gguf")), "data": Input(("conversations", "documents"), is_required=False)}
OUTPUT = ("gguf",)


class Config(Base):
    """The levels to write, and how f16 is checked."""

    levels: list[str] = Field(default=["f16", "q8_0"], min_length=1)
    """GGUF levels: f32, f16, bf16, q8_0, q6_k, q5_k_m, q5_0, q4_k_m, q4_k_s, q4_0, iq4_xs, iq4_nl, q3_k_m, q2_k; f16
    is always written too, and the others are made from it."""
    importance_tokens: int = Field(default=32_768, ge=0)
    """Tokens of `data` (its first rows, 512 of each at most) from which the importance matrix is collected, for levels
    below 8 bits; 0 for none."""
    requantize: bool = False
    """Whether a GGUF file that is already quantized may be quantized again, which adds to the loss."""
    num_texts: int = Field(default=50, ge=1)
    """Conversations of `data`, from the first, on which the f16 file is compared with the model."""
    num_threads: int | None = execution(None)
    """Threads that quantize; all cores by default. The result is the same."""


def run(config: Config, inputs: Inputs, out: Path) -> Metrics:
    """Write `model-LEVEL.gguf`, Modelfile, model card and checksums; fails if the f16 file disagrees with the model."""
    from baihua.compress import card, export, importance

    source, data = find_source(inputs["model"]), inputs.get("data")
    file, num_tokens = out / "imatrix.gguf", config.importance_tokens
    matrix = importance.prepare(source, data, file, levels=config.levels, num_tokens=num_tokens)
    levels = export.write_levels(
        source, out, config.levels, importance=matrix, is_forced=config.requantize, num_threads=config.num_threads
    )
    figures = {"num_importance_matrices": len(matrix)} if matrix else {}
    if source.is_dir():
        figures |= export.compare_with_folder(source, out / "model-f16.gguf", data, num_texts=config.num_texts)
    card.write_companions(out, source, levels)
    return {"levels": levels} | figures


def estimate(config: Config, inputs: Inputs, assumed: Mapping[str, Any], machine: TrainingMachine) -> Metrics:
    """Disk that the files will take, and the memory that each needs to answer, on any machine."""
    if assumed.get("model"):
        return forecast(config.levels, known_shape(assumed["model"]))
    return forecast(config.levels, find_source(inputs["model"]) if "model" in inputs else None)
