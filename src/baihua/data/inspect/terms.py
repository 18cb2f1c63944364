"""The words that tell a set of texts from others. Chinese has no spaces, so runs of characters stand for words."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

HAN_RUN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]{2,}")
LATIN_WORD = re.compile(r"[a-z]{4,}")
LENGTHS = (2, 3, 4)
# Characters that open or close a piece of a sentence rather than a word.
LOOSE = frozenset("的了是在和与或及并而也都就将把被给为以于从对到这那其此它他她你您我们个一些种下上中并請请會会對為與")
# A piece that is nearly always inside the same longer piece is no word of its own.
INSIDE_SHARE = 0.7
# A term must be in two texts and in this share of them to speak for them.
MIN_SHARE = 0.03
# A term that no other text has counts as this many, or its lift would have no end.
UNSEEN = 0.1


def count_terms(texts: Iterable[str]) -> Counter[str]:
    """In how many texts each term is; one character longer than a name may be, to see what is a mere piece."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(set(_terms(text)))
    return counts


def choose_terms(counts: Counter[str], num_texts: int, everywhere: Counter[str], num_everywhere: int) -> list[str]:
    """Terms of some of the texts, the most characteristic first, none sharing a character with one before it.

    The counts are of these texts, and of all texts with these among them.
    """
    least = max(min(2, num_texts), MIN_SHARE * num_texts)
    frequent = {term: count for term, count in counts.items() if count >= INSIDE_SHARE * least}
    wholes = _count_wholes(frequent)
    scores: dict[str, float] = {}
    for term, count in frequent.items():
        if count >= least and _is_word(term):
            share = count / num_texts
            share_elsewhere = (everywhere[term] - count + UNSEEN) / (num_everywhere - num_texts + 100 * UNSEEN)
            scores[term] = share * math.log(share / share_elsewhere)
    chosen: list[str] = []
    # Mere pieces come last: of texts made from one pattern, everything is a piece of something longer.
    pieces = {term for term in scores if wholes.get(term, 0) >= INSIDE_SHARE * frequent[term]}
    for term in sorted(scores, key=lambda term: (term in pieces, -scores[term], len(term), term)):
        if scores[term] > 0 and not any(_overlap(term, other) for other in chosen):
            chosen.append(term)
    return chosen


def _terms(text: str) -> Iterator[str]:
    yield from LATIN_WORD.findall(text.lower())
    for run in HAN_RUN.findall(text):
        for length in (*LENGTHS, LENGTHS[-1] + 1):
            for start in range(len(run) - length + 1):
                yield run[start : start + length]


def _count_wholes(counts: Mapping[str, int]) -> dict[str, int]:
    """For each piece, the count of the most frequent term that is one character longer."""
    found: dict[str, int] = {}
    for term, count in counts.items():
        for piece in (term[1:], term[:-1]):
            found[piece] = max(found.get(piece, 0), count)
    return found


def _is_word(term: str) -> bool:
    return term.isascii() or (len(term) <= LENGTHS[-1] and LOOSE.isdisjoint((term[0], term[-1])))


def _overlap(term: str, other: str) -> bool:
    return term == other if term.isascii() or other.isascii() else bool(set(term) & set(other))
