"""Draws by the hash of a text: the same text draws the same number, whatever other texts there are."""

import hashlib
from collections.abc import Iterable

import numpy as np


def hashed_number(text: str) -> int:
    """The first 64 bits of a text's SHA-256; start the text with the seed and the purpose of the draw."""
    # A JSON text may hold half of a surrogate pair, which plain UTF-8 does not encode.
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:8], "big")


def hashed_numbers(texts: Iterable[str], *, salt: str, num_texts: int) -> np.ndarray:
    """One number_N per text, uint64, which depends on the text and the salt alone.

    The salt has the name of the stage and its seed: with the same hash, a subset would be one side of a split.
    """
    numbers = (hashed_number(f"{salt}:{text}") for text in texts)
    return np.fromiter(numbers, dtype=np.uint64, count=num_texts)
