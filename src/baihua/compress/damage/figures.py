"""The figures of a level: means over texts and replies, with standard errors that take texts as the unit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from baihua.compress.damage.distance import Distance, RecordedScores, Text
from baihua.compress.damage.texts import LANGUAGES, Prompt
from baihua.statistics.clusters import Mean, mean, ratio

Figures = dict[str, Any]


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
        scored = zip(reference.texts, reference.bits, strict=True)
        chosen = [(text, bits) for text, bits in scored if text.language == language]
        texts = [text for text, _ in chosen]
        found |= _counts(texts, f"_{language}") | _bits_per_char(texts, [bits for _, bits in chosen], f"_{language}")
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
