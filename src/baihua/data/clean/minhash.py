"""MinHash band keys that similar texts share, and the exact similarity of chosen pairs.

N rows, B bands. Texts are compared as sets of character n-grams after normalising.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from baihua.data.clean.expressions import evaluate, text_column
from baihua.data.clean.texts import normalise

# Two texts of similarity J share at least one key with probability 1 - (1 - J^4)^32:
# 0.87 at J = 0.5, 0.95 at 0.55, 0.99 at 0.6, and 0.05 at 0.2, so that few unlike texts are compared.
NUM_BANDS = 32
NUM_HASHES_PER_BAND = 4

# Large odd numbers, drawn once with secrets.randbits(64): any would do, but other numbers give other keys.
_MIXERS = np.array([0xD1B2A3F58C6E4971, 0x9C3F71E5A84D2B67], dtype=np.uint64)
_BASE = np.uint64(0xB5297A4D3F84C2E9)


def sketch(texts: list[str], ngram: int) -> tuple[np.ndarray]:
    """The number of characters of each text (0 without any letter or digit) and its band keys: uint32_N(1+B)."""
    normal = [normalise(text) for text in texts]
    num_chars = [len(text) if left else 0 for text, left in zip(texts, normal, strict=True)]
    return (np.column_stack([np.array(num_chars, np.uint32), _band_keys(normal, ngram)]),)


def hash_grams(texts: list[str], ngram: int) -> tuple[np.ndarray, np.ndarray]:
    """Each text's distinct n-grams as ascending 32-bit hashes, and how many each text has."""
    # A text shorter than n is one gram; the padding is not a letter, so the gram differs from those of longer texts.
    padded = [text.ljust(ngram, "\0") if text else "" for text in map(normalise, texts)]
    num_chars = np.fromiter(map(len, padded), dtype=np.int64, count=len(padded))
    codes = np.frombuffer("".join(padded).encode("utf-32-le"), dtype="<u4")
    row = np.repeat(np.arange(len(texts), dtype=np.uint64), num_chars)
    is_start = np.ones(len(codes), dtype=bool)
    if len(codes):
        is_start[len(codes) - ngram + 1 :] = False
        is_start[: len(codes) - ngram + 1] = row[: len(codes) - ngram + 1] == row[ngram - 1 :]
    starts = np.flatnonzero(is_start)
    total = np.zeros(len(starts), dtype=np.uint64)
    for offset in range(ngram):
        total = total * _BASE + codes[starts + offset]
    keys = (row[starts] << np.uint64(32)) | (_scramble(total) >> np.uint64(32))
    keys.sort()
    # Not np.unique: for 1 million rows, NumPy 2.4's hashing takes 42 s, sorting 1 s.
    keys = keys[np.diff(keys, prepend=~keys[:1]) != 0]
    counts = np.bincount((keys >> np.uint64(32)).astype(np.int64), minlength=len(texts))
    return keys.astype(np.uint32), counts


@dataclass(frozen=True, slots=True)
class Grams:
    """All rows' gram hashes: those of row i are `values[offsets[i] : offsets[i + 1]]`, ascending."""

    values: np.ndarray
    offsets: np.ndarray

    def compare(self, left: np.ndarray, right: np.ndarray, threshold: float) -> np.ndarray:
        """The Jaccard similarity of each pair of rows; 0 where the sizes alone put it below the threshold."""
        sizes = self._count(left), self._count(right)
        smaller, larger = np.minimum(*sizes), np.maximum(*sizes)
        similarity = np.zeros(len(left))
        possible = np.flatnonzero((smaller >= threshold * larger) & (smaller > 0))
        # Blocks of about a million hashes fit into the processor's cache and take 30 MB of memory.
        block_of = np.cumsum((smaller + larger)[possible]) >> 20
        for block in np.split(possible, np.flatnonzero(np.diff(block_of)) + 1) if len(possible) else []:
            both = self._count_common(left[block], right[block])
            similarity[block] = both / (smaller[block] + larger[block] - both)
        return similarity

    def _count(self, rows: np.ndarray) -> np.ndarray:
        return self.offsets[rows + 1] - self.offsets[rows]

    def _count_common(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """The number of grams that both rows of a pair have: equal neighbours in their sorted hashes."""
        keys = np.concatenate([self._numbered(left), self._numbered(right)])
        keys.sort()
        common = keys[:-1][keys[1:] == keys[:-1]]
        return np.bincount((common >> np.uint64(32)).astype(np.int64), minlength=len(left))

    def _numbered(self, rows: np.ndarray) -> np.ndarray:
        """The hashes of some rows, with the position of the row among them in the upper half."""
        counts = self._count(rows)
        ends = np.cumsum(counts)
        places = np.arange(ends[-1]) + np.repeat(self.offsets[rows] - ends + counts, counts)
        return (np.repeat(np.arange(len(rows), dtype=np.uint64), counts) << np.uint64(32)) | self.values[places]


def _band_keys(normal: list[str], ngram: int) -> np.ndarray:
    """One uint32 key per band: equal if all MinHashes of the band are equal, otherwise by chance once in 4 billion."""
    # Daft's n-grams are of words: with a space after each character, characters are words.
    spaced = pa.array([" ".join(text) for text in normal], pa.string())
    hashes = text_column().minhash(num_hashes=NUM_BANDS * NUM_HASHES_PER_BAND, ngram_size=ngram)
    column = evaluate(hashes, spaced)
    pairs = np.ascontiguousarray(column.flatten().to_numpy()).view(np.uint64).reshape(len(normal), NUM_BANDS, 2)
    return (_scramble((pairs * _MIXERS).sum(axis=2, dtype=np.uint64)) >> np.uint64(32)).astype(np.uint32)


def _scramble(values: np.ndarray) -> np.ndarray:
    """Mix the bits, so that similar sums do not share their upper halves."""
    values = (values ^ (values >> np.uint64(31))) * _BASE
    return (values ^ (values >> np.uint64(29))) * _MIXERS[0]
