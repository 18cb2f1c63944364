"""Rows are dropped only for a row that stays and is alike, however they are found."""

import random
from functools import partial

import numpy as np
import pytest
from gram_sets import similarity
from hypothesis import given
from hypothesis import strategies as st

from baihua.data.clean.contract import Duplicates, Part, TextMap
from baihua.data.clean.duplicates import NUM_LEADERS, Edges, choose, follow_leaders
from baihua.data.clean.minhash import Grams, hash_grams, sketch
from baihua.data.clean.texts import normalise
from baihua.data.filters import exact_duplicate, near_duplicate
from baihua.data.filters.exact_duplicate import digest

HAN = "".join(map(chr, range(0x4E00, 0x4E00 + 3_000)))
LINE = "春天来了，公园里的花都开了，孩子们在草地上奔跑，老人们坐在长椅上晒太阳。"
TEXTS = st.lists(st.text("春夏秋ａaAß１1，。 \n😀𠀀", max_size=9), max_size=12)


class MemoryTable:
    """Texts in memory, given to the functions in blocks of three."""

    def __init__(self, texts: list[str]) -> None:
        self.blocks = [texts[start : start + 3] for start in range(0, len(texts), 3)] or [[]]
        self.num_rows = len(texts)

    def map(self, function: TextMap, part: Part) -> tuple[np.ndarray, ...]:
        return tuple(map(np.concatenate, zip(*map(function, self.blocks), strict=True)))


def find_near(texts: list[str], **options: object) -> Duplicates:
    return near_duplicate.check_table(MemoryTable(texts), near_duplicate.Config.model_validate(options))


def find_exact(texts: list[str], **options: object) -> Duplicates:
    return exact_duplicate.check_table(MemoryTable(texts), exact_duplicate.Config.model_validate(options))


def pairs(marks: Duplicates) -> list[tuple[int, int]]:
    return list(zip(marks.dropped_R.tolist(), marks.kept_R.tolist(), strict=True))


def hashed(texts: list[str], ngram: int) -> Grams:
    hashes, counts = MemoryTable(texts).map(partial(hash_grams, ngram=ngram), "all")
    return Grams(hashes, np.concatenate([[0], counts]).cumsum())


def random_text(rng: random.Random, num_chars: int = 80) -> str:
    return "".join(rng.choices(HAN, k=num_chars))


@given(TEXTS)
def test_exact_drops_all_but_the_first_of_equal_normalised_texts(texts: list[str]) -> None:
    first: dict[str, int] = {}
    for row, text in enumerate(map(normalise, texts)):
        first.setdefault(text, row)
    stands = [first[normal] if (normal := normalise(text)) else row for row, text in enumerate(texts)]
    marks = find_exact(texts)
    assert pairs(marks) == [(row, kept) for row, kept in enumerate(stands) if row != kept]
    assert marks.group_N.tolist() == stands
    assert marks.similarity_R is None


def test_exact_can_keep_the_longest() -> None:
    assert pairs(find_exact(["你好", "你好！", "你 好"], keep="longest")) == [(0, 1), (2, 1)]


def test_a_digest_is_128_bits_of_the_letters_and_the_length() -> None:
    ((one, other, nothing),) = digest(["Ａ你好", "a，你好", "！？"])
    assert one[:2].tolist() == other[:2].tolist() != nothing[:2].tolist()
    assert [one[2], other[2], nothing[2]] == [3, 4, 0]


@given(TEXTS, st.integers(1, 5))
def test_comparing_hashes_is_comparing_sets(texts: list[str], ngram: int) -> None:
    found = hashed(texts, ngram)
    left, right = (side.ravel() for side in np.indices((len(texts), len(texts))))
    expected = [similarity(texts[i], texts[j], ngram) for i, j in zip(left, right, strict=True)]
    assert found.compare(left, right, 0).tolist() == pytest.approx(expected)


def test_a_pair_whose_sizes_rule_it_out_is_not_compared() -> None:
    found = hashed([LINE, LINE[:12]], 5)
    assert found.compare(np.array([0]), np.array([1]), 0.5).tolist() == [0]
    assert found.compare(np.array([0]), np.array([1]), 0.1)[0] > 0.1


def test_texts_that_differ_in_width_and_punctuation_have_one_sketch() -> None:
    ((one, other),) = sketch(["Ａｂ，１２三", "aB12三！"], 5)
    assert one[1:].tolist() == other[1:].tolist()
    assert (one[0], other[0]) == (6, 6)


@given(TEXTS, st.sampled_from(["longest", "first"]), st.sampled_from([0.5, 0.7, 1.0]))
def test_near_drops_only_for_a_better_row_that_stays_and_is_alike(
    texts: list[str], keep: str, threshold: float
) -> None:
    marks = find_near(texts, keep=keep, threshold=threshold, ngram=2)
    assert marks.similarity_R is not None
    assert not set(marks.dropped_R.tolist()) & set(marks.kept_R.tolist())
    for (dropped, kept), found in zip(pairs(marks), marks.similarity_R, strict=True):
        assert found == pytest.approx(similarity(texts[dropped], texts[kept], 2))
        assert found >= np.float32(threshold)
        lengths = (len(texts[kept]), len(texts[dropped])) if keep == "longest" else (0, 0)
        assert (-lengths[0], kept) < (-lengths[1], dropped)
        assert marks.group_N[dropped] == marks.group_N[kept]


@given(TEXTS)
def test_of_rows_equal_after_normalising_near_keeps_one(texts: list[str]) -> None:
    marks = find_near(texts, threshold=1, keep="first")
    left = set(range(len(texts))) - set(marks.dropped_R.tolist())
    normal = [normalise(texts[row]) for row in sorted(left) if normalise(texts[row])]
    assert len(normal) == len(set(normal))


def test_planted_copies_are_found_and_strangers_are_not() -> None:
    rng = random.Random(0)
    texts = [random_text(rng) for _ in range(300)]
    copies = [text[:30] + random_text(rng, 8) + text[38:] for text in texts]
    assert min(map(similarity, texts, copies)) >= 0.6
    marks = find_near(texts + copies, keep="first")
    assert len(marks.dropped_R) >= 0.95 * len(texts)
    assert (marks.dropped_R - marks.kept_R == len(texts)).all()


def test_the_end_of_a_chain_stays_when_its_middle_goes() -> None:
    rng = random.Random(1)
    first = random_text(rng)
    middle = first[14:] + random_text(rng, 14)
    last = middle[14:] + random_text(rng, 14)
    assert similarity(first, middle) > 0.6 > 0.55 > similarity(first, last)
    assert pairs(find_near([first, middle, last])) == [(1, 0)]
    assert find_near([first, middle, last], action="group").group_N.tolist() == [0, 0, 0]


def test_a_long_chain_ends_with_a_word_and_drops_only_what_is_alike(caplog: pytest.LogCaptureFixture) -> None:
    text = random_text(random.Random(2), 700)
    texts = [text[start : start + 100] for start in range(600)]
    with caplog.at_level("INFO", logger="baihua"):
        marks = find_near(texts)
    assert "stopped after 20 rounds" in caplog.text
    assert len(marks.dropped_R) > 400
    assert not set(marks.dropped_R.tolist()) & set(marks.kept_R.tolist())
    assert min(similarity(texts[dropped], texts[kept]) for dropped, kept in pairs(marks)) >= 0.55


def test_the_longest_stays_and_stands_for_the_others() -> None:
    assert pairs(find_near([LINE, LINE + "真好", LINE + "！", "完全不同的一句话。"])) == [(0, 1), (2, 1)]


def test_grouping_drops_nothing_and_joins_what_is_near() -> None:
    marks = find_near(["别的", LINE, "另外", LINE + "真好", "", "！"], action="group")
    assert pairs(marks) == []
    assert marks.group_N.tolist() == [0, 1, 2, 1, 4, 5]


def test_texts_without_letters_are_never_duplicates() -> None:
    for find in (find_exact, find_near):
        assert pairs(find(["", "", "！？", "！？", "😀"])) == []


@given(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda pair: pair[0] < pair[1])))
def test_a_rank_is_dropped_exactly_if_a_better_one_near_it_stays(near: set[tuple[int, int]]) -> None:
    better, worse = (np.array([pair[side] for pair in sorted(near)], dtype=np.int64) for side in (0, 1))
    is_dropped = choose(Edges.join([Edges(better, worse, np.ones(len(near), np.float32))]), 10)
    for rank in range(10):
        assert is_dropped[rank] == any(not is_dropped[b] for b, w in near if w == rank)


@pytest.mark.parametrize("num_rows", [2, NUM_LEADERS + 1, 3_000])
def test_rows_that_share_a_key_cost_linear_time(num_rows: int) -> None:
    num_compared = 0

    def judge(better: np.ndarray, worse: np.ndarray) -> np.ndarray:
        nonlocal num_compared
        num_compared += len(worse)
        assert (better < worse).all()
        return np.zeros(len(worse), dtype=bool)

    follow_leaders(np.arange(num_rows, dtype=np.uint64), judge)
    assert num_compared == sum(num_rows - 1 - leader for leader in range(min(NUM_LEADERS, num_rows - 1)))


def test_rows_of_other_keys_are_not_compared() -> None:
    seen: list[tuple[int, int]] = []

    def judge(better: np.ndarray, worse: np.ndarray) -> np.ndarray:
        seen.extend(zip(better.tolist(), worse.tolist(), strict=True))
        return np.zeros(len(worse), dtype=bool)

    follow_leaders(np.array([0, 2, (1 << 32) + 1, (2 << 32) + 3, (2 << 32) + 4], dtype=np.uint64), judge)
    assert seen == [(0, 2), (3, 4)]


def test_a_threshold_that_the_keys_cannot_serve_is_refused() -> None:
    with pytest.raises(ValueError, match=r"greater than or equal to 0\.5"):
        near_duplicate.Config(threshold=0.3)
