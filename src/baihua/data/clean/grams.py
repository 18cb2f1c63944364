"""Texts as sets of character n-grams, so that near copies can be found in any script without knowing its words."""

import unicodedata


def normalise(text: str) -> str:
    """A text in NFKC and without case, only its letters and digits."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def grams(text: str, n: int) -> set[str]:
    """Every run of n characters; a shorter text is one gram, an empty one has none."""
    if len(text) <= n:
        return {text} if text else set()
    return {text[start : start + n] for start in range(len(text) - n + 1)}


def jaccard(a: set[str], b: set[str]) -> float:
    """Share of two sets' members that both have, 0 to 1; two empty sets have nothing in common."""
    both = len(a & b)
    return both / (len(a) + len(b) - both) if both else 0.0
