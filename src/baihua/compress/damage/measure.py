"""Measurement of every level in a folder against its reference: predictions, replies, size, speed and memory."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from baihua.backends.llama_cpp.chat import open_chat
from baihua.chat.types import Sampling
from baihua.compress.damage.chart import draw
from baihua.compress.damage.distance import compare, record, score
from baihua.compress.damage.figures import (
    Figures,
    ReplyPair,
    category_figures,
    level_figures,
    reference_figures,
    reply_figures,
)
from baihua.compress.damage.speed import measure_speed
from baihua.compress.damage.summary import advise, markdown
from baihua.compress.damage.texts import Material, Prompt
from baihua.compress.export import describe_file
from baihua.core.errors import InputError
from baihua.core.files import write_json, write_jsonl, write_text

# Loss is measured against f16; the other two replace it where there is none.
REFERENCES = ("f16", "bf16", "f32")
SCRATCH = "reference.scratch"


@dataclass(frozen=True, slots=True)
class MeasuredLevel:
    """The figures of one level; the reference itself has neither reply pairs nor categories."""

    row: Figures
    pairs: Sequence[ReplyPair] = ()
    categories: Sequence[Figures] = ()


def find_levels(folder: Path, wanted: Sequence[str] | None) -> dict[str, Path]:
    """The GGUF files of a folder by level: the reference, then the others from the largest to the smallest."""
    files = folder.glob("model-*.gguf") if folder.is_dir() else []
    found = {file.stem.removeprefix("model-"): file for file in files}
    names = ", ".join(sorted(found))
    reference = next((level for level in REFERENCES if level in found), None)
    unknown = sorted(set(wanted or ()) - set(found))
    levels = sorted(set(wanted or found) - {reference, *unknown}, key=lambda one: (-found[one].stat().st_size, one))
    if reference is None:
        what = f"no file to compare with: expected model-f16.gguf, found {names or 'none'}"
        fix = "give the whole artifact of the stage `quantize`, with f16 among its levels"
    elif unknown:
        what = f"no file of level {', '.join(unknown)}; there are: {names}"
        fix = "correct `levels`, or add them to the stage `quantize`"
    elif not levels:
        what = f"the only level is {reference}, which leaves nothing to compare"
        fix = "add another level to the stage `quantize`, such as q4_k_m"
    else:
        return {level: found[level] for level in (reference, *levels)}
    raise InputError(what, where=str(folder), fix=fix)


def measure_damage(
    files: Mapping[str, Path],
    material: Material,
    out: Path,
    *,
    max_reply_tokens: int,
    num_speed_tokens: int,
    num_threads: int | None,
) -> dict[str, Any]:
    """Measure every level and write damage.json, damage.md, damage.svg and replies.jsonl; returns the figures.

    The first file is the reference, whose log-probabilities are on disk meanwhile.
    """
    ask = partial(_ask, prompts=material.prompts, max_tokens=max_reply_tokens, num_threads=num_threads)
    measure_size = partial(_size_and_speed, num_tokens=num_speed_tokens, num_threads=num_threads)
    (first, reference_file), *others = files.items()
    replies = ask(reference_file)
    answered = [pair for pair in zip(material.prompts, replies, strict=True) if pair[0].category]
    # Categories are compared on the reference's replies.
    texts = [*material.texts, *(material.reader.answered(prompt, reply) for prompt, reply in answered)]
    scratch = out / SCRATCH
    try:
        reference = record(scratch, texts, score(reference_file, texts, num_threads=num_threads))
        size, speed = measure_size(first, reference_file)
        measured = [MeasuredLevel(size | reference_figures(reference) | speed)]
        for level, file in others:
            distances = compare(reference, score(file, texts, num_threads=num_threads))
            pairs = list(map(ReplyPair, material.prompts, replies, ask(file)))
            size, speed = measure_size(level, file)
            row = size | level_figures(distances) | reply_figures(pairs) | speed
            measured.append(MeasuredLevel(row, pairs, category_figures(level, distances, pairs)))
    finally:
        scratch.unlink(missing_ok=True)
    return _write(measured, out)


def _ask(file: Path, *, prompts: Sequence[Prompt], max_tokens: int, num_threads: int | None) -> list[str]:
    """The greedy reply to each prompt."""
    if not prompts:
        return []
    sampling = Sampling(max_tokens=max_tokens, temperature=0.0)
    with closing(open_chat(file, num_threads=num_threads)) as model:
        return ["".join(piece.text for piece in model.stream(prompt.messages, sampling)) for prompt in prompts]


def _size_and_speed(level: str, file: Path, *, num_tokens: int, num_threads: int | None) -> tuple[Figures, Figures]:
    size = describe_file(level, file)
    if not num_tokens:
        return size, {}
    return size, measure_speed(
        file, num_threads=num_threads, num_prompt_tokens=4 * num_tokens, num_new_tokens=num_tokens
    )


def _write(measured: Sequence[MeasuredLevel], out: Path) -> dict[str, Any]:
    rows = [level.row for level in measured]
    categories = [row for level in measured for row in level.categories]
    advice, chart = advise(rows), draw(rows)
    damage: dict[str, Any] = {"reference": rows[0]["level"], "levels": rows}
    damage |= ({"categories": categories} if categories else {}) | ({"advice": advice} if advice else {})
    write_json(out / "damage.json", damage)
    write_text(out / "damage.md", markdown(damage))
    if chart:
        write_text(out / "damage.svg", chart)
    replies = [
        {
            "level": level.row["level"],
            "question_id": pair.prompt.row_id,
            "category": pair.prompt.category,
            "question": pair.prompt.text,
            "reference": pair.reference,
            "reply": pair.level,
            "is_changed": pair.is_changed,
            "edit_distance": round(pair.distance, 4),
        }
        for level in measured
        for pair in level.pairs
    ]
    if replies:
        write_jsonl(out / "replies.jsonl", replies)
    return damage
