"""The distance between a level's predictions and the reference's, text by text and position by position.

T tokens, V vocabulary. A text of T tokens has T - 1 positions: its first token is given, never predicted.
"""

# ruff: noqa: N803, N806, N815  (names of tensors end with their shape)

import itertools
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from baihua.backends.llama_cpp.scorer import open_scorer
from baihua.core.errors import RunError
from baihua.core.log import progress_bar
from baihua.core.tables import format_bytes
from baihua.model.compare import bits_of, kl_divergence
from baihua.model.examples import Example

BYTES_PER_LOG_PROB = 2


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """A text as tokens, of which the targets count for bits and characters."""

    example: Example
    language: str
    """`zh` or `en`; empty for a text that counts only in its category."""
    category: str = ""

    @property
    def num_positions(self) -> int:
        """Predicted tokens: all but the first."""
        return len(self.example.ids_T) - 1

    @property
    def num_chars(self) -> int:
        """Characters that the bits are for."""
        return self.example.target_text.num_chars

    def bits(self, log_probs_TV: np.ndarray) -> float:
        """Bits of the targets, given the log-probabilities of the positions before them."""
        return float(bits_of(self.example.ids_T, log_probs_TV)[self.example.is_target_T[1:]].sum())


@dataclass(frozen=True, slots=True, eq=False)
class Distance:
    """One text at a level, compared with the reference."""

    text: Text
    kl_T: np.ndarray
    """KL divergence from reference to level at each position, in nats."""
    num_same_top: int
    """Positions with the same most likely token."""
    bits: float
    reference_bits: float


@dataclass(frozen=True, slots=True, eq=False)
class RecordedScores:
    """The reference's predictions for each text; its log-probabilities are in a scratch file, 2 bytes each."""

    file: Path
    texts: Sequence[Text]
    num_tokens: int
    starts: list[int]
    """Position in the file at which each text begins."""
    tops: list[np.ndarray]
    """The most likely token of each position: rounding may make two equal."""
    bits: list[float]

    def read(self, number: int) -> np.ndarray:
        """Log-probabilities_TV of one text, float16; memory-mapped."""
        shape = (len(self.tops[number]), self.num_tokens)
        offset = self.starts[number] * self.num_tokens * BYTES_PER_LOG_PROB
        return np.memmap(self.file, dtype=np.float16, mode="r", offset=offset, shape=shape)


def score(file: Path, texts: Sequence[Text], *, num_threads: int | None = None) -> Iterator[np.ndarray]:
    """Natural-log probabilities_TV of each text in turn, by llama.cpp; the model is closed after the last."""
    with closing(open_scorer(file, num_threads)) as scorer, progress_bar(f"score {file.stem}", len(texts)) as bar:
        for text in texts:
            yield scorer.log_probs(text.example.ids_T.tolist())
            bar.advance()


def record(scratch: Path, texts: Sequence[Text], scores: Iterable[np.ndarray]) -> RecordedScores:
    """Keep the reference's log-probabilities_TV of every text in a file."""
    lengths = [text.num_positions for text in texts]
    starts = list(itertools.accumulate(lengths[:-1], initial=0))
    num_tokens, tops, bits = 0, list[np.ndarray](), list[float]()
    with scratch.open("wb") as stream:
        for text, log_probs_TV in zip(texts, scores, strict=True):
            if not num_tokens:
                num_tokens = log_probs_TV.shape[1]
                check_space(scratch.parent, sum(lengths) * num_tokens * BYTES_PER_LOG_PROB)
            tops.append(log_probs_TV[:-1].argmax(axis=1))
            bits.append(text.bits(log_probs_TV))
            # Row by row: a second table of a whole text's probabilities may not fit into memory.
            for row_V in log_probs_TV[:-1]:
                stream.write(row_V.astype(np.float16).tobytes())
    return RecordedScores(scratch, texts, num_tokens, starts, tops, bits)


def check_space(folder: Path, num_bytes: int) -> None:
    """Refuse to start with too little free disk space."""
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        needed = f"needs {format_bytes(num_bytes)} of disk for the reference's probabilities"
        what, fix = f"{needed}, {format_bytes(free)} are free", "free some space, or lower `num_texts` or `max_length`"
        raise RunError(f"comparing the levels {what}", where=str(folder), fix=fix)


def compare(reference: RecordedScores, scores: Iterable[np.ndarray]) -> list[Distance]:
    """Compare a level's log-probabilities_TV of the reference's texts with the reference's own."""
    found: list[Distance] = []
    for number, (text, log_probs_TV) in enumerate(zip(reference.texts, scores, strict=True)):
        kl_T = kl_divergence(reference.read(number), log_probs_TV[:-1])
        num_same_top = int((log_probs_TV[:-1].argmax(axis=1) == reference.tops[number]).sum())
        found.append(Distance(text, kl_T, num_same_top, text.bits(log_probs_TV), reference.bits[number]))
    return found
