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
