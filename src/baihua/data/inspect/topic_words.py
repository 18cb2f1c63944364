"""Words that distinguish a set of texts from others; Chinese has no spaces, so runs of characters stand for words."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from baihua.chat.zh import HAN

HAN_RUN = re.compile(f"[{HAN}]{{2,}}")
LATIN_WORD = re.compile(r"[a-z]{4,}")
LENGTHS = (2, 3, 4)
# Characters that begin or end a part of a sentence rather than a word.
LOOSE = frozenset("的了是在和与或及并而也都就将把被给为以于从对到这那其此它他她你您我们个一些种下上中并請请會会對為與")
# A run that is nearly always inside the same longer run is not a word by itself.
INSIDE_SHARE = 0.7
# A word must occur in two texts and in this share of them to be typical of them.
MIN_SHARE = 0.03
# The count for words that no other text has; with 0 their lift would be infinite.
UNSEEN = 0.1


def count_words(texts: Iterable[str]) -> Counter[str]:
    """The number of texts that contain each run of up to five Han characters and each Latin word.

    Names have at most four Han characters; the fifth shows which runs are only parts of longer ones.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(set(_words(text)))
    return counts


def choose_words(counts: Counter[str], num_texts: int, everywhere: Counter[str], num_everywhere: int) -> list[str]:
    """Words of some of the texts, the most typical first, none sharing a character with one before it.

    `counts` are those of the texts, `everywhere` those of all texts, including these.
    """
    least = max(min(2, num_texts), MIN_SHARE * num_texts)
    frequent = {word: count for word, count in counts.items() if count >= INSIDE_SHARE * least}
    # For each run, the count of the most frequent run that is one character longer.
    longer: dict[str, int] = {}
    for word, count in frequent.items():
        for part in (word[1:], word[:-1]):
            longer[part] = max(longer.get(part, 0), count)
    scores: dict[str, float] = {}
    for word, count in frequent.items():
        if count >= least and _is_name(word):
            share = count / num_texts
            share_elsewhere = (everywhere[word] - count + UNSEEN) / (num_everywhere - num_texts + 100 * UNSEEN)
            scores[word] = share * math.log(share / share_elsewhere)
    chosen: list[str] = []
    # Parts come last and are not left out: of texts made from one pattern, everything is part of something longer.
    parts = {word for word in scores if longer.get(word, 0) >= INSIDE_SHARE * frequent[word]}
    for word in sorted(scores, key=lambda word: (word in parts, -scores[word], len(word), word)):
        if scores[word] > 0 and not any(_overlap(word, other) for other in chosen):
            chosen.append(word)
    return chosen


def _words(text: str) -> Iterator[str]:
    yield from LATIN_WORD.findall(text.lower())
    for run in HAN_RUN.findall(text):
        for length in (*LENGTHS, LENGTHS[-1] + 1):
            yield from (run[start : start + length] for start in range(len(run) - length + 1))


def _is_name(word: str) -> bool:
    return word.isascii() or (len(word) <= LENGTHS[-1] and LOOSE.isdisjoint((word[0], word[-1])))


def _overlap(word: str, other: str) -> bool:
    return word == other if word.isascii() or other.isascii() else bool(set(word) & set(other))
