"""Similar rows of a table, found by shared keys and compared exactly, and which row of each group is kept.

Rows are ranked: rank 0 is kept before all others. A row is dropped only for a better row that is kept, and the two
are compared exactly.

Time and memory grow with the rows, not with their pairs: rows that share a band key are compared with the few best
of them, not with each other. The cost: of many rows that share a key without being similar (a form letter), a pair may
be missed under that key; the other keys remain.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from baihua.core.log import logger
from baihua.data.clean.minhash import NUM_BANDS, Grams

# All pairs of up to nine rows that share a key are compared.
NUM_LEADERS = 8
# Two to six rounds are enough, even for 20,000 copies of one row. A chain of thousands of rows, each a little less
# similar to the first, needs one round per step, which is not worth the time.
MAX_NUM_ROUNDS = 20
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)

Compare = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Edges:
    """Pairs of ranks of similar rows, the better and the worse one, and their similarities."""

    better: np.ndarray
    worse: np.ndarray
    similarity: np.ndarray

    @classmethod
    def join(cls, parts: list["Edges"]) -> "Edges":
        """All pairs of several lists, ordered by the worse rank, then by the better one."""
        better = np.concatenate([np.empty(0, np.uint32), *(part.better for part in parts)])
        worse = np.concatenate([np.empty(0, np.uint32), *(part.worse for part in parts)])
        similarity = np.concatenate([np.empty(0, np.float32), *(part.similarity for part in parts)])
        order = np.lexsort((better, worse))
        return cls(better[order], worse[order], similarity[order])


@dataclass(frozen=True, slots=True)
class RankedRows:
    """The keys and grams of each row by row number, and the row number of each rank."""

    keys: np.ndarray
    grams: Grams
    row_of: np.ndarray
    is_text: np.ndarray
    threshold: float

    def find(self, better: np.ndarray, worse: np.ndarray) -> tuple[np.ndarray, Edges]:
        """Whether each pair of ranks is similar, and the similar pairs as edges."""
        similarity = self.grams.compare(self.row_of[better], self.row_of[worse], self.threshold)
        is_near = similarity >= self.threshold
        return is_near, Edges(better[is_near], worse[is_near], similarity[is_near].astype(np.float32))

    def share_key(self, band: int, among: np.ndarray, concerns: np.ndarray) -> np.ndarray:
        """(key << 32 | rank) of the ranks in `among` whose key a rank in `concerns` has, ascending."""
        rank = np.flatnonzero(among).astype(np.uint32)
        keys = self.keys[self.row_of[rank], band]
        if not np.array_equal(among, concerns):
            wanted = np.sort(keys[concerns[rank]])
            is_shared = wanted[np.searchsorted(wanted, keys) % len(wanted)] == keys
            rank, keys = rank[is_shared], keys[is_shared]
        return sort_packed(keys, rank)


def link_survivors(rows: RankedRows) -> Edges:
    """Similar pairs for dropping: rounds are repeated until no two rows that would be kept are similar."""
    edges = Edges.join([])
    survives = rows.is_text
    concerns = survives
    for _ in range(MAX_NUM_ROUNDS):
        found = _link_once(rows, survives, concerns)
        edges = Edges.join([edges, found])
        now = rows.is_text & ~choose(edges, len(survives))
        # A row that lost to a row that was then dropped has missed later comparisons; the others have had all of them.
        missed = ~survives
        missed[found.worse] = True
        survives, concerns = now, now & missed
        if not concerns.any():
            return edges
    logger.info(
        "near_duplicate stopped after %s rounds; up to %s kept rows may be near-duplicates of another kept row",
        *(MAX_NUM_ROUNDS, f"{concerns.sum():,}"),
    )
    return edges


def _link_once(rows: RankedRows, among: np.ndarray, concerns: np.ndarray) -> Edges:
    """Similar pairs of ranks with at least one in `concerns`; after a pair, a row is compared with better rows only.

    It is still compared after its first pair: that better row may be dropped itself, and then, of a thousand copies,
    all but one would have to be compared again, a thousand times.
    """
    best = np.full(len(among), len(among), dtype=np.uint32)
    found: list[Edges] = []

    def compare(better: np.ndarray, worse: np.ndarray) -> np.ndarray:
        is_near = best[worse] <= better
        is_open = ~is_near & (concerns[better] | concerns[worse])
        is_near[is_open], edges = rows.find(better[is_open], worse[is_open])
        best[edges.worse] = edges.better
        found.append(edges)
        return is_near

    for band in range(NUM_BANDS):
        follow_leaders(rows.share_key(band, among, concerns), compare)
    return Edges.join(found)


def link_all(rows: RankedRows) -> Edges:
    """Similar pairs for grouping: a row is compared under all its keys, but not with rows in its group."""
    edges = Edges.join([])
    group = np.arange(len(rows.row_of))
    for band in range(NUM_BANDS):
        edges = Edges.join([edges, *_join_groups(rows, band, group)])
        group = group_rows(len(group), edges.better, edges.worse)
    return edges


def _join_groups(rows: RankedRows, band: int, group: np.ndarray) -> list[Edges]:
    """Similar pairs of ranks that share a key and are not in one group yet."""
    found: list[Edges] = []

    def compare(better: np.ndarray, worse: np.ndarray) -> np.ndarray:
        is_near = group[better] == group[worse]
        is_near[~is_near], edges = rows.find(better[~is_near], worse[~is_near])
        found.append(edges)
        return is_near

    follow_leaders(rows.share_key(band, rows.is_text, rows.is_text), compare)
    return found


def follow_leaders(keyed: np.ndarray, compare: Compare) -> None:
    """Compare the rows of each key with the best of them, those not similar to it with the best of those, and so on."""
    key_starts = np.searchsorted(keyed, keyed[:: 1 << 18] & ~_LOW)
    for left in np.split(keyed, np.unique(key_starts)):
        for _ in range(NUM_LEADERS):
            is_leader = np.ones(len(left), dtype=bool)
            is_leader[1:] = (left[1:] ^ left[:-1]) > _LOW
            member = np.flatnonzero(~is_leader)
            if not len(member):
                break
            leader = np.maximum.accumulate(np.where(is_leader, np.arange(len(left)), 0))[member]
            is_near = compare(left[leader].astype(np.uint32), left[member].astype(np.uint32))
            left = left[member[~is_near]]


def choose(edges: Edges, num_rows: int) -> np.ndarray:
    """Whether each rank is dropped: from the best on, a row is dropped if it is similar to a kept one."""
    is_dropped = bytearray(num_rows)
    # Ordered by the worse rank, so the fate of the better one is known. In blocks, since Python's numbers are large.
    for start in range(0, len(edges.worse), 1 << 18):
        block = slice(start, start + (1 << 18))
        for better, worse in zip(edges.better[block].tolist(), edges.worse[block].tolist(), strict=True):
            if not is_dropped[better]:
                is_dropped[worse] = 1
    return np.frombuffer(is_dropped, dtype=bool)


def group_rows(num_rows: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The smallest row number among the rows that each row is connected to by pairs, including itself."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(one), dtype=np.int8)
    graph = coo_array((ones, (one, other)), shape=(num_rows, num_rows))
    num_labels, labels = connected_components(graph, directed=False)
    row = np.arange(num_rows - 1, -1, -1)
    smallest = np.empty(num_labels, dtype=np.int64)
    # From the last row to the first: of several assignments to one index, the last one counts.
    smallest[labels[::-1]] = row
    return smallest[labels]


def sort_packed(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Two 32-bit columns packed into 64 bits and sorted: several times as fast as sorting by two keys."""
    packed = high.astype(np.uint64)
    packed <<= _HALF
    packed |= low
    packed.sort()
    return packed
