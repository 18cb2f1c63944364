"""Measure the cost of each quantization level against f16: predictions, replies, size, speed and memory."""

from pathlib import Path

from pydantic import Field

from baihua.core.config import Base, execution
from baihua.core.stage import Input, Inputs, Metrics

VERSION = 1
INPUTS = {
    "model": Input(("gguf",)),
    "data": Input(("conversations", "documents")),
    "questions": Input(("conversations",), is_required=False),
}
OUTPUT = ("figures",)


class Config(Base):
    """The levels to measure, and how many texts, replies and tokens."""

    levels: list[str] | None = None
    """Levels to compare with f16 (else bf16, else f32), as in the names of their files; all by default."""
    num_texts: int = Field(default=60, ge=1)
    """Maximum texts of each language, Chinese and any other; the standard errors show whether they suffice."""
    max_length: int = Field(default=512, ge=8)
    """Maximum tokens of a text; the rest is left out. Longer questions are not asked."""
    num_replies: int = Field(default=20, ge=0)
    """Maximum questions that every level answers, from `questions` or else `data`; 0 for none."""
    max_reply_tokens: int = Field(default=128, ge=1)
    """Longest reply, in tokens."""
    num_speed_tokens: int = Field(default=64, ge=0)
    """Tokens generated to measure speed and memory, after a prompt four times as long; 0 skips both."""
    num_threads: int | None = execution(None)
    """Threads of llama.cpp; one per physical core by default."""


def run(config: Config, inputs: Inputs, out: Path) -> Metrics:
    """Write damage.json, its tables as damage.md, its chart as damage.svg, and replies.jsonl to compare by eye."""
    from baihua.compress.damage.measure import find_levels, measure_damage
    from baihua.compress.damage.texts import read_material

    files = find_levels(inputs["model"], config.levels)
    sizes = config.model_dump(include={"num_texts", "num_replies", "max_length"})
    material = read_material(next(iter(files.values())), inputs["data"], inputs.get("questions"), **sizes)
    measuring = config.model_dump(include={"max_reply_tokens", "num_speed_tokens", "num_threads"})
    return measure_damage(files, material, out, **measuring)
