"""Measurement of every level in a folder against its reference: predictions, replies, size, speed and memory."""

from collections.abc import Mapping, Sequence
from contextlib import closing
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
    (first, reference_file), *others = files.items()
    rows: list[Figures] = []
    categories: list[Figures] = []
    compared: list[dict[str, Any]] = []

    def add_row(level: str, file: Path, figures: Figures) -> None:
        speed = {"num_prompt_tokens": 4 * num_speed_tokens, "num_new_tokens": num_speed_tokens}
        measured = measure_speed(file, num_threads=num_threads, **speed) if num_speed_tokens else {}
        rows.append(describe_file(level, file) | figures | measured)

    def ask(file: Path) -> list[str]:
        return _ask(file, material.prompts, max_tokens=max_reply_tokens, num_threads=num_threads)

    replies = ask(reference_file)
    answered = [pair for pair in zip(material.prompts, replies, strict=True) if pair[0].category]
    # Categories are compared on the reference's replies.
    texts = [*material.texts, *(material.reader.answered(prompt, reply) for prompt, reply in answered)]
    scratch = out / "reference.scratch"
    try:
        reference = record(scratch, texts, score(reference_file, texts, num_threads=num_threads))
        add_row(first, reference_file, reference_figures(reference))
        for level, file in others:
            distances = compare(reference, score(file, texts, num_threads=num_threads))
            pairs = list(map(ReplyPair, material.prompts, replies, ask(file)))
            add_row(level, file, level_figures(distances) | reply_figures(pairs))
            categories += category_figures(level, distances, pairs)
            compared += [{"level": level} | pair.as_json() for pair in pairs]
    finally:
        scratch.unlink(missing_ok=True)
    advice, chart = advise(rows), draw(rows)
    damage: dict[str, Any] = {"reference": first, "levels": rows}
    damage |= ({"categories": categories} if categories else {}) | ({"advice": advice} if advice else {})
    write_json(out / "damage.json", damage)
    write_text(out / "damage.md", markdown(damage))
    if chart:
        write_text(out / "damage.svg", chart)
    if compared:
        write_jsonl(out / "replies.jsonl", compared)
    return damage


def _ask(file: Path, prompts: Sequence[Prompt], *, max_tokens: int, num_threads: int | None) -> list[str]:
    """The greedy reply to each prompt."""
    if not prompts:
        return []
    sampling = Sampling(max_tokens=max_tokens, temperature=0.0)
    with closing(open_chat(file, num_threads=num_threads)) as model:
        return ["".join(piece.text for piece in model.stream(prompt.messages, sampling)) for prompt in prompts]
