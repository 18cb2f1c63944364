"""What a level costs: its predictions, replies, size, speed and memory beside those of the file it was made from."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from baihua.chat.types import ChatModel
from baihua.compress.damage.distance import Distance, Reference, Text, compare, record
from baihua.compress.damage.replies import ReplyPair, ask
from baihua.compress.damage.texts import LANGUAGES, Question, TextReader
from baihua.compress.export import describe_file
from baihua.core.errors import InputError
from baihua.core.log import progress_bar
from baihua.statistics.clusters import Mean, mean, ratio

# The issue is the loss against f16; the other two stand in for it where it is not there.
REFERENCES = ("f16", "bf16", "f32")
SCRATCH = "reference.scratch"
Figures = dict[str, Any]


class ClosableScorer(Protocol):
    """A Scorer that can be freed."""

    def log_probs(self, ids: Sequence[int]) -> np.ndarray:
        """As a Scorer's."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


@dataclass(frozen=True, slots=True)
class Engine:
    """How a file is opened and measured; `measure_speed` is None where speed is left out."""

    open_scorer: Callable[[Path], ClosableScorer]
    open_chat: Callable[[Path], ChatModel]
    measure_speed: Callable[[Path], Figures] | None


@dataclass(frozen=True, slots=True)
class Material:
    """What is read and what is asked."""

    reader: TextReader
    texts: Sequence[Text]
    questions: Sequence[Question]
    max_reply_tokens: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One level beside the reference; the reference itself has neither distances nor pairs."""

    level: str
    row: Figures
    pairs: Sequence[ReplyPair] = ()
    categories: Sequence[Figures] = ()


def find_levels(folder: Path, wanted: Sequence[str] | None) -> dict[str, Path]:
    """The GGUF files of a folder by level, the reference first, then from the largest file to the smallest."""
    files = folder.glob("model-*.gguf") if folder.is_dir() else []
    found = {file.stem.removeprefix("model-"): file for file in files}
    reference = next((level for level in REFERENCES if level in found), None)
    if reference is None:
        raise InputError(
            f"there is no file to compare with: expected model-f16.gguf, found {', '.join(sorted(found)) or 'none'}",
            where=str(folder),
            fix="give the whole artifact of the stage `quantize`, with f16 among its levels",
        )
    unknown = sorted(set(wanted or ()) - set(found))
    if unknown:
        raise InputError(
            f"no file of level {', '.join(unknown)}; there are: {', '.join(sorted(found))}",
            where=str(folder),
            fix="correct `levels`, or let the stage `quantize` write them",
        )
    levels = sorted(set(wanted or found) - {reference}, key=lambda level: (-found[level].stat().st_size, level))
    if not levels:
        raise InputError(
            f"there is only {reference}, so there is nothing to compare",
            where=str(folder),
            fix="let the stage `quantize` write one more level, such as q4_k_m",
        )
    return {level: found[level] for level in (reference, *levels)}


def measure(files: Mapping[str, Path], material: Material, engine: Engine, scratch: Path) -> list[Measured]:
    """Measure every file; the first is the reference, whose log-probabilities are kept in `scratch` meanwhile."""
    (first, reference_file), *others = files.items()
    replies = _ask(engine, reference_file, material)
    texts = [*material.texts, *_answered(material, replies)]
    try:
        reference = record_file(engine, reference_file, texts, scratch)
        row = describe_file(first, reference_file) | reference_figures(texts, reference)
        found = [Measured(first, row | _speed(engine, reference_file))]
        for level, file in others:
            distances = compare_file(engine, file, texts, reference)
            three = zip(material.questions, replies, _ask(engine, file, material), strict=True)
            pairs = [ReplyPair(question, wanted, said) for question, wanted, said in three]
            row = describe_file(level, file) | figures(texts, distances) | reply_figures(pairs) | _speed(engine, file)
            found.append(Measured(level, row, pairs, _by_category(level, texts, distances, pairs)))
        return found
    finally:
        scratch.unlink(missing_ok=True)


def record_file(engine: Engine, file: Path, texts: Sequence[Text], scratch: Path) -> Reference:
    """What the reference says about each text, kept in `scratch`."""
    with closing(engine.open_scorer(file)) as scorer, progress_bar(f"read {file.stem}", len(texts)) as bar:

        def log_probs(ids: Sequence[int]) -> np.ndarray:
            bar.advance()
            return scorer.log_probs(ids)

        num_tokens = scorer.log_probs(texts[0].ids[:1]).shape[1]
        return record(scratch, texts, log_probs, num_tokens=num_tokens)


def compare_file(engine: Engine, file: Path, texts: Sequence[Text], reference: Reference) -> list[Distance]:
    """One file's distance from the reference on each text."""
    found: list[Distance] = []
    with closing(engine.open_scorer(file)) as scorer, progress_bar(f"compare {file.stem}", len(texts)) as bar:
        for number, text in enumerate(texts):
            found.append(compare(reference, number, text, scorer.log_probs(text.ids)))
            bar.advance()
    return found


def reference_figures(texts: Sequence[Text], reference: Reference) -> Figures:
    """Bits per character of the reference itself, by language."""
    found: Figures = {}
    for language in LANGUAGES:
        bits = [(bits, text) for bits, text in zip(reference.bits, texts, strict=True) if text.language == language]
        found |= _counts([text for _, text in bits], f"_{language}")
        chars = [text.num_chars for _, text in bits]
        found |= _with_error(f"bits_per_char_{language}", ratio([one for one, _ in bits], chars))
    return found


def figures(texts: Sequence[Text], distances: Sequence[Distance]) -> Figures:
    """A level's distances by language; a language without texts has no figures."""
    found: Figures = {}
    for language in LANGUAGES:
        chosen = [(text, d) for text, d in zip(texts, distances, strict=True) if text.language == language]
        found |= _summary([text for text, _ in chosen], [d for _, d in chosen], f"_{language}")
    return found


def reply_figures(pairs: Sequence[ReplyPair]) -> Figures:
    """How many replies change, and by how much, relative to the longer one's length."""
    if not pairs:
        return {}
    changed = _with_error("changed_reply_share", mean([float(pair.is_changed) for pair in pairs]))
    distance = _with_error("mean_edit_distance", mean([pair.distance for pair in pairs]))
    return {"num_replies": len(pairs)} | changed | distance


def _summary(texts: Sequence[Text], distances: Sequence[Distance], suffix: str) -> Figures:
    if not texts:
        return {}
    kl_T = np.concatenate([d.kl_T for d in distances])  # noqa: N806
    num_positions = [len(d.kl_T) for d in distances]
    bits = [d.bits for d in distances]
    return (
        _counts(texts, suffix)
        | _with_error(f"mean_kl{suffix}", ratio([float(d.kl_T.sum()) for d in distances], num_positions))
        | {f"median_kl{suffix}": float(np.median(kl_T))}
        | {f"p99_kl{suffix}": float(np.quantile(kl_T, 0.99)), f"max_kl{suffix}": float(kl_T.max())}
        | _with_error(f"same_top_share{suffix}", ratio([d.num_same_top for d in distances], num_positions))
        | _with_error(f"bits_per_char{suffix}", ratio(bits, [text.num_chars for text in texts]))
        # Of the same texts, so it is known far better than the two figures that it compares.
        | _with_error(f"bits_per_char_ratio{suffix}", ratio(bits, [d.reference_bits for d in distances]))
    )


def _counts(texts: Sequence[Text], suffix: str) -> Figures:
    if not texts:
        return {}
    num_positions = sum(len(text.ids) - 1 for text in texts)
    return {
        f"num_texts{suffix}": len(texts),
        f"num_positions{suffix}": num_positions,
        f"num_chars{suffix}": sum(text.num_chars for text in texts),
    }


def _by_category(
    level: str, texts: Sequence[Text], distances: Sequence[Distance], pairs: Sequence[ReplyPair]
) -> list[Figures]:
    found: list[Figures] = []
    names = {text.category for text in texts} | {pair.question.category for pair in pairs}
    for name in sorted(names - {""}):
        chosen = [(text, d) for text, d in zip(texts, distances, strict=True) if text.category == name]
        summary = _summary([text for text, _ in chosen], [d for _, d in chosen], "")
        replies = reply_figures([pair for pair in pairs if pair.question.category == name])
        found.append({"level": level, "category": name} | summary | replies)
    return found


def _answered(material: Material, replies: Sequence[str]) -> list[Text]:
    """Questions that have a category, with the reference's replies: the texts on which categories are compared."""
    asked = zip(material.questions, replies, strict=True)
    # Some templates trim their texts, and one that changes a text is refused.
    return [material.reader.answered(question, reply.strip()) for question, reply in asked if question.category]


def _ask(engine: Engine, file: Path, material: Material) -> list[str]:
    if not material.questions:
        return []
    with closing(engine.open_chat(file)) as model:
        return ask(model, material.questions, max_tokens=material.max_reply_tokens)


def _speed(engine: Engine, file: Path) -> Figures:
    return engine.measure_speed(file) if engine.measure_speed else {}


def _with_error(name: str, found: Mean | None) -> Figures:
    """A figure and its standard error, as far as they exist."""
    if found is None:
        return {}
    error = {} if found.standard_error is None else {f"{name}_se": found.standard_error}
    return {name: found.value} | error
