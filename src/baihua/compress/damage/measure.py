"""Measurement of every level in a folder against its reference: predictions, replies, size, speed and memory.

Figures are means over texts and replies, with standard errors that take texts as the unit.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from baihua.backends.llama_cpp.chat import open_chat
from baihua.chat.types import Sampling
from baihua.compress.damage.distance import Distance, RecordedScores, Text, compare, record, score
from baihua.compress.damage.speed import measure_speed
from baihua.compress.damage.summary import advise, draw, markdown
from baihua.compress.damage.texts import LANGUAGES, Material, Prompt
from baihua.compress.export import describe_file
from baihua.core.errors import InputError
from baihua.core.files import write_json, write_jsonl, write_text
from baihua.statistics.clusters import Mean, mean, ratio

Figures = dict[str, Any]
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
    rows, categories, compared = list[Figures](), list[Figures](), list[Figures]()

    def add_row(level: str, file: Path, figures: Figures) -> None:
        speed = {"num_prompt_tokens": 4 * num_speed_tokens, "num_new_tokens": num_speed_tokens}
        measured = measure_speed(file, num_threads=num_threads, **speed) if num_speed_tokens else {}
        rows.append(describe_file(level, file) | figures | measured)

    def ask(file: Path) -> list[str]:
        """The greedy reply to each prompt."""
        if not material.prompts:
            return []
        sampling = Sampling(max_tokens=max_reply_tokens, temperature=0.0)
        with closing(open_chat(file, num_threads=num_threads)) as model:
            answers = (model.stream(prompt.messages, sampling) for prompt in material.prompts)
            return ["".join(piece.text for piece in answer) for answer in answers]

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


@dataclass(frozen=True, slots=True)
class ReplyPair:
    """The replies of the reference and of a level to one prompt."""

    prompt: Prompt
    reference: str
    level: str

    @property
    def is_changed(self) -> bool:
        """Whether a single character differs."""
        return self.reference != self.level

    @property
    def distance(self) -> float:
        """Character edits divided by the longer reply's length, 0 to 1; 0 for two empty replies."""
        length = max(len(self.reference), len(self.level))
        return edit_distance(self.reference, self.level) / length if length else 0.0

    def as_json(self) -> dict[str, Any]:
        """A line of replies.jsonl."""
        asked = {"question_id": self.prompt.row_id, "category": self.prompt.category, "question": self.prompt.text}
        changed = {"is_changed": self.is_changed, "edit_distance": round(self.distance, 4)}
        return asked | {"reference": self.reference, "reply": self.level} | changed


def reference_figures(reference: RecordedScores) -> Figures:
    """Bits per character of the reference itself, by language."""
    found: Figures = {}
    for language in LANGUAGES:
        texts = [text for text in reference.texts if text.language == language]
        bits = [bits for text, bits in zip(reference.texts, reference.bits, strict=True) if text.language == language]
        found |= _counts(texts, f"_{language}") | _bits_per_char(texts, bits, f"_{language}")
    return found


def level_figures(distances: Sequence[Distance]) -> Figures:
    """A level's distances by language; a language without texts has no figures."""
    found: Figures = {}
    for language in LANGUAGES:
        found |= _summary([d for d in distances if d.text.language == language], f"_{language}")
    return found


def reply_figures(pairs: Sequence[ReplyPair]) -> Figures:
    """Share of changed replies, and the mean edit distance relative to the longer reply."""
    if not pairs:
        return {}
    changed = _with_error("changed_reply_share", mean([float(pair.is_changed) for pair in pairs]))
    return {"num_replies": len(pairs)} | changed | _with_error("mean_edit_distance", mean([p.distance for p in pairs]))


def category_figures(level: str, distances: Sequence[Distance], pairs: Sequence[ReplyPair]) -> list[Figures]:
    """One row for each category of the prompts."""
    names = {distance.text.category for distance in distances} | {pair.prompt.category for pair in pairs}
    return [
        {"level": level, "category": name}
        | _summary([distance for distance in distances if distance.text.category == name], "")
        | reply_figures([pair for pair in pairs if pair.prompt.category == name])
        for name in sorted(names - {""})
    ]


def edit_distance(first: str, second: str) -> int:
    """Fewest insertions, deletions and replacements of characters that turn one text into the other (Levenshtein).

    One row of the usual table at a time; time grows with the product of the lengths.
    """
    columns = np.arange(len(second) + 1)
    row, codes = columns, np.array([ord(char) for char in second], dtype=np.int64)
    for number, char in enumerate(first, start=1):
        row = np.concatenate([[number], np.minimum(row[1:] + 1, row[:-1] + (codes != ord(char)))])
        # An insertion costs one per column to the right, so compare values less their column.
        row = np.minimum.accumulate(row - columns) + columns
    return int(row[-1])


def _summary(distances: Sequence[Distance], suffix: str) -> Figures:
    if not distances:
        return {}
    texts, bits = [d.text for d in distances], [d.bits for d in distances]
    kl_T = np.concatenate([d.kl_T for d in distances])  # noqa: N806
    num_positions = [text.num_positions for text in texts]
    return (
        _counts(texts, suffix)
        | _with_error(f"mean_kl{suffix}", ratio([float(d.kl_T.sum()) for d in distances], num_positions))
        | {f"median_kl{suffix}": float(np.median(kl_T))}
        | {f"p99_kl{suffix}": float(np.quantile(kl_T, 0.99)), f"max_kl{suffix}": float(kl_T.max())}
        | _with_error(f"same_top_share{suffix}", ratio([d.num_same_top for d in distances], num_positions))
        | _bits_per_char(texts, bits, suffix)
        # Both are of the same texts, so their ratio is known far better than either.
        | _with_error(f"bits_per_char_ratio{suffix}", ratio(bits, [d.reference_bits for d in distances]))
    )


def _counts(texts: Sequence[Text], suffix: str) -> Figures:
    if not texts:
        return {}
    return {
        f"num_texts{suffix}": len(texts),
        f"num_positions{suffix}": sum(text.num_positions for text in texts),
        f"num_chars{suffix}": sum(text.num_chars for text in texts),
    }


def _bits_per_char(texts: Sequence[Text], bits: Sequence[float], suffix: str) -> Figures:
    return _with_error(f"bits_per_char{suffix}", ratio(bits, [text.num_chars for text in texts]))


def _with_error(name: str, found: Mean | None) -> Figures:
    """A figure and its standard error, where they exist."""
    if found is None:
        return {}
    return {name: found.value} | ({} if found.standard_error is None else {f"{name}_se": found.standard_error})
