"""Write a model as GGUF files, one per level, and prove that f16 says what the model says."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from baihua.compress.fit import forecast
from baihua.core.config import Base, execution
from baihua.core.errors import InputError
from baihua.core.log import logger
from baihua.core.stage import Input
from baihua.train.plan.machines import TrainingMachine, known_shape

if TYPE_CHECKING:
    import numpy as np


VERSION = 2
INPUTS = {
    "model": Input(("model", "gguf")),
    "data": Input(("conversations", "documents"), is_needed=False),
}
OUTPUT = ("gguf",)
IMPORTANCE_FILE = "imatrix.gguf"


class Config(Base):
    """Which levels to write."""

    levels: list[str] = Field(default=["f16", "q8_0"], min_length=1)
    """GGUF levels: f32, f16, bf16, q8_0, q6_k, q5_k_m, q5_0, q4_k_m, q4_k_s, q4_0, iq4_xs, iq4_nl, q3_k_m, q2_k; f16
    is always written too, and the others are made from it."""
    importance_tokens: int = Field(default=32_768, ge=0)
    """Tokens of `data` (its first rows, 512 of each at most) from which the importance matrix is collected, for levels
    below 8 bits; 0 for none."""
    requantize: bool = False
    """Whether a GGUF file that is quantized already may be quantized again, which adds to the loss."""
    num_texts: int = Field(default=50, ge=1)
    """Conversations of `data`, from its first, on which the f16 file is compared with the model."""
    num_threads: int | None = execution(None)
    """Threads that quantize; all cores by default. The result is the same."""


def run(config: Config, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Write `model-LEVEL.gguf`, Modelfile, model card and checksums; fails if the f16 file disagrees with the model."""
    from baihua.compress.card import write_companions
    from baihua.compress.export import write_levels

    source = _only_file(inputs["model"])
    importance = _collect(config, source, inputs.get("data"), out)
    levels = write_levels(
        source,
        out,
        config.levels,
        importance=importance,
        is_forced=config.requantize,
        num_threads=config.num_threads,
    )
    first = out / "model-f16.gguf"
    checked = _compare(config, source, inputs.get("data"), first) if source.is_dir() else {}
    write_companions(out, source, levels)
    return {"levels": levels} | ({"num_importance_matrices": len(importance)} if importance else {}) | checked


def estimate(
    config: Config, inputs: Mapping[str, Path], assumed: Mapping[str, Any], machine: TrainingMachine
) -> dict[str, Any]:
    """Disk that the files will take, and memory with which each will run, on whatever machine."""
    if assumed.get("model"):
        return forecast(config.levels, known_shape(assumed["model"]))
    return forecast(config.levels, _only_file(inputs["model"]) if "model" in inputs else None)


def _only_file(model: Path) -> Path:
    """A model folder, or the GGUF file to begin with: of an artifact's files the one in full precision."""
    if model.is_file() or (model / "config.json").is_file():
        return model
    files = sorted(model.glob("*.gguf"))
    best = [file for level in ("f32", "f16", "bf16") for file in files if file.stem.endswith(f"-{level}")]
    if len(files) != 1 and not best:
        raise InputError(
            f"this folder has neither a config.json nor a .gguf file in full precision ({len(files)} .gguf files)",
            where=str(model),
            fix="name a model folder or one .gguf file",
        )
    return (best or files)[0]


def _collect(config: Config, source: Path, data: Path | None, out: Path) -> Mapping[str, "np.ndarray"]:
    """The importance matrix, where some level has a use for it and there is text to collect it from."""
    from baihua.compress import importance
    from baihua.compress.importance import read_texts
    from baihua.compress.levels import check_level

    # All names are checked before anything is computed.
    takers = [level for level in config.levels if check_level(level).takes_importance]
    if not takers or not config.importance_tokens:
        return {}
    if data is None or not source.is_dir():
        why = "needs `data`" if data is None else "is collected from a model folder, not from a GGUF file"
        logger.info("no importance matrix for %s: it %s", ", ".join(takers), why)
        return {}
    file = out / IMPORTANCE_FILE
    if not file.is_file():
        texts = read_texts(source, data, num_tokens=config.importance_tokens)
        found = importance.collect(source, texts)
        importance.save(file, found, num_tokens=sum(map(len, texts)), dataset=f"{len(texts)} rows of `data`")
    return importance.load(file)


def _compare(config: Config, folder: Path, data: Path | None, file: Path) -> dict[str, Any]:
    """The model in float32, a layer at a time, against llama.cpp on the f16 file."""
    from baihua.backends.choose import open_scorer
    from baihua.compress.damage.texts import has_conversations
    from baihua.data.rows import read_rows
    from baihua.model.parity import check_parity, compare_pairs
    from baihua.model.parity_texts import encode_texts
    from baihua.model.streamed import log_probs_of_all, open_streamed

    rows = read_rows(data)[: config.num_texts] if data and has_conversations(data) else []
    texts = encode_texts(folder, [row.messages for row in rows])
    scorer = open_scorer(file)
    wanted = log_probs_of_all(open_streamed(folder), texts)
    parity = compare_pairs((ours, scorer.log_probs(ids)) for ours, ids in zip(wanted, texts, strict=True))
    check_parity(parity, what="the f16 GGUF differs from the model")
    return asdict(parity)
