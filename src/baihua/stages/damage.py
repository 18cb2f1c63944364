"""Measure what each level of quantization costs: predictions, replies, size, speed and memory beside f16."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from baihua.core.config import Base, execution
from baihua.core.stage import Input

if TYPE_CHECKING:
    from baihua.compress.damage.measure import Engine, Material, Measured

VERSION = 1
INPUTS = {
    "model": Input(("gguf",)),
    "data": Input(("conversations", "documents")),
    "questions": Input(("conversations",), is_needed=False),
}
OUTPUT = ("figures",)


class Config(Base):
    """How much to measure."""

    levels: list[str] | None = None
    """Levels to compare with f16 (else bf16, else f32), by the names of their files; all that are there by default."""
    num_texts: int = Field(default=60, ge=1)
    """Most texts of each language, Chinese and any other; the standard errors say whether they suffice."""
    max_length: int = Field(default=512, ge=8)
    """Most tokens of a text, what is beyond is left out; longer questions are not asked."""
    num_replies: int = Field(default=20, ge=0)
    """Most questions that every level answers, from `questions` or else `data`; 0 for none."""
    max_reply_tokens: int = Field(default=128, ge=1)
    """Longest reply, in tokens."""
    num_speed_tokens: int = Field(default=64, ge=0)
    """Tokens that are written to measure speed and memory, after a prompt four times as long; 0 leaves both out."""
    num_threads: int | None = execution(None)
    """Threads of llama.cpp; one per physical core by default."""


def run(config: Config, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Write damage.json, its tables as damage.md, its chart as damage.svg, and replies.jsonl to compare by eye."""
    from baihua.compress.damage.advice import advise
    from baihua.compress.damage.measure import SCRATCH, find_levels, measure

    files = find_levels(inputs["model"], config.levels)
    material = _read_material(config, inputs, next(iter(files.values())))
    measured = measure(files, material, _open_engine(config), out / SCRATCH)
    levels = [level.row for level in measured]
    categories = [row for level in measured for row in level.categories]
    advice = advise(levels)
    damage = {"reference": measured[0].level, "levels": levels}
    damage |= ({"categories": categories} if categories else {}) | ({"advice": advice} if advice else {})
    _write(damage, measured, out)
    return damage


def _read_material(config: Config, inputs: Mapping[str, Path], reference: Path) -> "Material":
    from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
    from baihua.compress.damage.measure import Material
    from baihua.compress.damage.texts import TextReader, has_conversations

    asked = inputs.get("questions", inputs["data"] if has_conversations(inputs["data"]) else None)
    tokenizer = GgufTokenizer(reference)
    template = tokenizer.template() if asked else None
    reader = TextReader(tokenizer, template, max_length=config.max_length)
    questions = reader.questions(asked, num_questions=config.num_replies) if asked and config.num_replies else []
    texts = reader.read(inputs["data"], num_texts=config.num_texts)
    return Material(reader, texts, questions, config.max_reply_tokens)


def _open_engine(config: Config) -> "Engine":
    from functools import partial

    from baihua.backends.llama_cpp import chat as llama_cpp
    from baihua.backends.llama_cpp import scorer as llama_cpp_scorer
    from baihua.compress.damage.measure import Engine
    from baihua.compress.damage.speed import measure_speed

    threads = config.num_threads
    num_new = config.num_speed_tokens
    speed = partial(measure_speed, num_threads=threads, num_prompt_tokens=4 * num_new, num_new_tokens=num_new)
    return Engine(
        open_scorer=partial(llama_cpp_scorer.open_scorer, num_threads=threads),
        open_chat=partial(llama_cpp.open_chat, num_threads=threads),
        measure_speed=speed if num_new else None,
    )


def _write(damage: Mapping[str, Any], measured: "list[Measured]", out: Path) -> None:
    from baihua.compress.damage.chart import draw
    from baihua.compress.damage.tables import markdown
    from baihua.core.files import write_json, write_jsonl, write_text

    write_json(out / "damage.json", damage)
    write_text(out / "damage.md", markdown(damage))
    chart = draw(damage["levels"])
    if chart:
        write_text(out / "damage.svg", chart)
    rows = [
        {
            "level": level.level,
            "question_id": pair.question.row_id,
            "category": pair.question.category,
            "question": pair.question.text,
            "reference": pair.reference,
            "reply": pair.level,
            "is_changed": pair.is_changed,
            "edit_distance": round(pair.distance, 4),
        }
        for level in measured
        for pair in level.pairs
    ]
    if rows:
        write_jsonl(out / "replies.jsonl", rows)
