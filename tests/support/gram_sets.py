"""The similarity of two texts as sets of their n-grams: the oracle for what deduplication finds with hashes."""

from baihua.data.clean.texts import grams, normalise


def jaccard(a: set[str], b: set[str]) -> float:
    """Share of two sets' members that both have, 0 to 1; two empty sets have nothing in common."""
    both = len(a & b)
    return both / (len(a) + len(b) - both) if both else 0.0


def similarity(one: str, other: str, ngram: int = 5) -> float:
    """The Jaccard similarity of two texts' character n-grams after normalising."""
    return jaccard(grams(normalise(one), ngram), grams(normalise(other), ngram))
