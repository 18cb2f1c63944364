"""Does `near_duplicate` find planted copies, and only rows that are alike?

Usage: python bench/data/near_duplicates.py [--plants 2000] [--seed 0]

Edited copies are planted into the Chinese rows of the bilingual set. J is the exact Jaccard similarity of the sets of
character 5-grams after normalising, computed here with Python's sets. A plant is found if it or its source is
dropped. Wanted: at least 95 % of the plants with J >= 0.6 found; at most 0.5 % of the dropped rows with J < 0.5 to
the row that is kept in their place.
"""

import argparse
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
from perturb import Plant, plants, read_rows, row_text

from baihua.data.filters.near_duplicate import Config, check_table
from baihua.data.grams import grams, jaccard, normalise
from baihua.data.table import Part

NUM_ROWS_PER_BLOCK = 10_000
NUM_PROCESSES = 2
WANTED_RECALL = 0.95
MOST_UNLIKE = 0.005


class MemoryTable:
    """Texts in memory, worked on by two processes; keeps count of the seconds that takes."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.num_rows = len(texts)
        self.num_seconds = 0.0

    def map(self, function: Callable[[list[str]], np.ndarray], part: Part) -> np.ndarray:
        """One number or vector per row."""
        return np.concatenate(list(self._run(function)))

    def map_ragged(
        self, function: Callable[[list[str]], tuple[np.ndarray, np.ndarray]], part: Part
    ) -> tuple[np.ndarray, np.ndarray]:
        """Any number of values per row."""
        values, counts = zip(*self._run(function), strict=True)
        return np.concatenate(values), np.concatenate([[0], np.cumsum(np.concatenate(counts))])

    def _run(self, function: Callable[[list[str]], Any]) -> Iterator[Any]:
        start = time.perf_counter()
        blocks = [self.texts[at : at + NUM_ROWS_PER_BLOCK] for at in range(0, self.num_rows, NUM_ROWS_PER_BLOCK)]
        with ProcessPoolExecutor(NUM_PROCESSES, mp_context=get_context("spawn")) as pool:
            yield from pool.map(function, blocks)
        self.num_seconds += time.perf_counter() - start


def similarity(one: str, other: str) -> float:
    """The exact Jaccard similarity of two texts' character 5-grams after normalising."""
    return jaccard(grams(normalise(one), 5), grams(normalise(other), 5))


def tell_bin(value: float) -> str:
    """The bin of a similarity: below 0.4, then tenths, and 1 alone."""
    if value == 1:
        return "J = 1"
    return "J < 0.4" if value < 0.4 else f"J {int(value * 10) / 10:.1f} to {int(value * 10 + 1) / 10:.1f}"


def print_shares(title: str, names: list[str], is_found: list[bool]) -> None:
    """How many of each name were found."""
    found: dict[str, list[bool]] = defaultdict(list)
    for name, value in zip(names, is_found, strict=True):
        found[name].append(value)
    print(f"\n{title:<24}{'plants':>8}{'found':>8}{'recall':>9}")
    for name in sorted(found):
        values = found[name]
        print(f"{name:<24}{len(values):>8,}{sum(values):>8,}{sum(values) / len(values):>9.1%}")


def measure_recall(planted: list[Plant], texts: list[str], is_dropped: np.ndarray) -> float:
    """Print recall by similarity and by kind; returns that of plants with J >= 0.6."""
    first = len(texts) - len(planted)
    is_found = [bool(is_dropped[first + at] or is_dropped[plant.source]) for at, plant in enumerate(planted)]
    near = [similarity(plant.text, texts[plant.source]) for plant in planted]
    print_shares("similarity", [tell_bin(value) for value in near], is_found)
    alike = [at for at, value in enumerate(near) if value >= 0.6]
    print_shares("kind (J >= 0.6)", [planted[at].kind for at in alike], [is_found[at] for at in alike])
    return sum(is_found[at] for at in alike) / len(alike)


def main() -> int:
    """Print the figures; 1 if they are not as wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plants", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    originals = [row_text(row) for row in read_rows()]
    planted = plants(originals, options.plants, random.Random(options.seed))
    texts = originals + [plant.text for plant in planted]
    table = MemoryTable(texts)
    start = time.perf_counter()
    marks = check_table(table, Config())
    num_seconds = time.perf_counter() - start
    is_dropped = np.zeros(len(texts), dtype=bool)
    is_dropped[marks.dropped_R] = True
    recall = measure_recall(planted, texts, is_dropped)
    pairs = zip(marks.dropped_R.tolist(), marks.kept_R.tolist(), strict=True)
    near = [similarity(texts[dropped], texts[kept]) for dropped, kept in pairs]
    unlike = sum(value < 0.5 for value in near) / len(near)
    print(f"\nplants with J >= 0.6 found: {recall:.2%} (wanted: at least {WANTED_RECALL:.0%})")
    print(f"dropped rows with J < 0.5: {unlike:.2%} of {len(near):,} (wanted: at most {MOST_UNLIKE:.1%}); ", end="")
    print(f"lowest {min(near):.3f}; kept rows that are dropped: {is_dropped[marks.kept_R].sum()}")
    print(f"{len(texts):,} rows in {num_seconds:.1f} s, of them {table.num_seconds:.1f} s in {NUM_PROCESSES} processes")
    return int(recall < WANTED_RECALL or unlike > MOST_UNLIKE)


if __name__ == "__main__":
    sys.exit(main())
