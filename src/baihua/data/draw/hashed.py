"""Draws that a text fixes alone: whatever else is there, and in whatever order, the same text draws the same."""

import hashlib
from collections.abc import Iterable

import numpy as np


def hashed_number(text: str) -> int:
    """The first 64 bits of a text's SHA-256; put a seed and what the draw is for in front of the text."""
    # A JSON text may hold half of a surrogate pair, which plain UTF-8 does not encode.
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:8], "big")


def hashed_numbers(texts: Iterable[str], *, salt: str, num_texts: int) -> np.ndarray:
    """One number_N per text, uint64, that the text and the salt fix alone.

    The salt names the stage beside its seed: by the same hash, a subset would be cut out of one side of a split.
    """
    numbers = (hashed_number(f"{salt}:{text}") for text in texts)
    return np.fromiter(numbers, dtype=np.uint64, count=num_texts)
