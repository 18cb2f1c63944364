"""How far a level's predictions are from the reference's, text by text and position by position.

T tokens, V vocabulary. A text of T tokens has T - 1 positions: its first token is given, never predicted.
"""

# ruff: noqa: N803, N806, N815  (names of tensors end with their shape)

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from baihua.core.errors import RunError

LogProbs = Callable[[Sequence[int]], np.ndarray]
"""Token ids to natural-log probabilities_TV, as a Scorer gives them."""
# A second table of a whole text's probabilities need not fit into memory.
NUM_ROWS = 64
BYTES_PER_LOG_PROB = 2


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """A text as tokens. Its bits are those of the counted tokens, which stand for `num_chars` characters."""

    row_id: str
    language: str
    """`zh` or `en`; empty for a text that belongs to neither figure."""
    category: str
    ids: list[int]
    is_counted_T: np.ndarray
    num_chars: int


@dataclass(frozen=True, slots=True, eq=False)
class Distance:
    """One text as a level sees it, beside the reference."""

    kl_T: np.ndarray
    """Nats of KL divergence, reference to level, at each position."""
    num_same_top: int
    """Positions with the same most likely token."""
    bits: float
    reference_bits: float


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What the reference says about each text; its log-probabilities lie in a scratch file, 2 bytes each."""

    file: Path
    num_tokens: int
    starts: list[int]
    """Position in the file at which each text begins."""
    tops: list[np.ndarray]
    """The most likely token of each position: rounding may make two equal."""
    bits: list[float]

    def read(self, number: int) -> np.ndarray:
        """Log-probabilities_TV of one text, float16; mapped, not loaded."""
        shape = (len(self.tops[number]), self.num_tokens)
        offset = self.starts[number] * self.num_tokens * BYTES_PER_LOG_PROB
        return np.memmap(self.file, dtype=np.float16, mode="r", offset=offset, shape=shape)


def check_space(folder: Path, num_bytes: int) -> None:
    """Refuse to begin what the disk cannot hold."""
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise RunError(
            f"the reference's probabilities need {num_bytes / 1e9:.2f} GB of disk while the levels are compared, "
            f"{free / 1e9:.2f} GB are free",
            where=str(folder),
            fix="free some space, or lower `num_texts` or `max_length`",
        )


def record(file: Path, texts: Sequence[Text], log_probs: LogProbs, *, num_tokens: int) -> Reference:
    """Score every text with the reference and keep its log-probabilities in a file."""
    lengths = [len(text.ids) - 1 for text in texts]
    check_space(file.parent, sum(lengths) * num_tokens * BYTES_PER_LOG_PROB)
    starts = [sum(lengths[:number]) for number in range(len(texts))]
    reference = Reference(file, num_tokens, starts, [], [])
    with file.open("wb") as stream:
        for text in texts:
            log_probs_TV = log_probs(text.ids)[:-1]
            reference.tops.append(log_probs_TV.argmax(axis=1))
            reference.bits.append(_bits(text, log_probs_TV))
            for start in range(0, len(log_probs_TV), NUM_ROWS):
                stream.write(log_probs_TV[start : start + NUM_ROWS].astype(np.float16).tobytes())
    return reference


def compare(reference: Reference, number: int, text: Text, log_probs_TV: np.ndarray) -> Distance:
    """A level's log-probabilities of the text of that number against the reference's."""
    log_probs_TV, wanted_TV = log_probs_TV[:-1], reference.read(number)
    parts = [slice(start, start + NUM_ROWS) for start in range(0, len(log_probs_TV), NUM_ROWS)]
    return Distance(
        kl_T=np.concatenate([kl(wanted_TV[part], log_probs_TV[part]) for part in parts]),
        num_same_top=int((log_probs_TV.argmax(axis=1) == reference.tops[number]).sum()),
        bits=_bits(text, log_probs_TV),
        reference_bits=reference.bits[number],
    )


def kl(first_TV: np.ndarray, second_TV: np.ndarray) -> np.ndarray:
    """KL divergence_T of the first distribution to the second, in nats, given log-probabilities.

    The first may be rounded to float16, which moves each by up to 1 in 2,000 of itself. Made to sum to one again, so
    that what is lost here is gained there, they change the mean by less than 1e-5: on six texts of 50 to 95 tokens with
    SmolLM2 by 1e-6 at q8_0 (KL 0.008) and 7e-6 at q2_k (KL 0.7).
    """
    first_TV = first_TV.astype(np.float32)
    first_TV -= np.log(np.exp(first_TV).sum(axis=1, keepdims=True, dtype=np.float64)).astype(np.float32)
    return (np.exp(first_TV) * (first_TV - second_TV)).sum(axis=1, dtype=np.float64)


def _bits(text: Text, log_probs_TV: np.ndarray) -> float:
    next_ids = np.asarray(text.ids[1:])
    bits_T = -log_probs_TV[np.arange(len(next_ids)), next_ids].astype(np.float64) / math.log(2)
    return float(bits_T[text.is_counted_T[1:]].sum())
