"""Character n-grams, which find similar texts in any script without word segmentation."""

import unicodedata


def normalise(text: str) -> str:
    """The letters and digits of a text in NFKC and without case."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def grams(text: str, n: int) -> set[str]:
    """Every run of n characters; a shorter text is one gram, an empty text has none."""
    if len(text) <= n:
        return {text} if text else set()
    return {text[start : start + n] for start in range(len(text) - n + 1)}
