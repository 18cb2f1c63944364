"""Sort rows into topics by the characters of what is asked, and name each topic by its most characteristic words.

Rows are compared by their runs of one to three characters: no words to cut, so any script will do. N rows, F of
them fitted on, D dimensions, K topics.
"""

# ruff: noqa: N803, N806  (names of arrays end with their shape)
# pyarrow.compute makes its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from baihua.data.batch import Batch
from baihua.data.clean.expressions import evaluate, text_column
from baihua.data.draw.split import group_fraction
from baihua.data.filters import refusal
from baihua.data.inspect.measures import excerpt, read_batches
from baihua.data.inspect.terms import choose_terms, count_terms
from baihua.data.rows import find_table, holds_documents

TOPICS_FILE, ROWS_FILE = "topics.json", "topics.parquet"
ROWS_SCHEMA = pa.schema([("id", pa.string()), ("topic", pa.string())])
MAX_NUM_FIT_ROWS = 50_000
# A topic of fewer rows says nothing, so a small set gets fewer topics.
MIN_NUM_ROWS_PER_TOPIC = 10
# What a row is about is in its first sentences; the rest costs time.
NUM_CHARS_READ = 500
NUM_FEATURES, NUM_DIMENSIONS = 2**17, 64
# Names need fewer rows and fewer characters than topics do.
NUM_ROWS_NAMED_BY, NUM_CHARS_NAMED_BY = 1000, 200
NUM_WORDS, NUM_EXAMPLES = 3, 3
UNNAMED = "其他"


@dataclass(frozen=True, slots=True)
class Topic:
    """Rows that ask for similar things.

    `mean_chars` is that of the answers (or the documents), `num_refusals` counts the rows whose answer opens with
    a refusal; documents do not answer. `examples` are the questions nearest to the centre.
    """

    name: str
    num_rows: int
    mean_chars: float
    num_refusals: int | None
    examples: list[str]


@dataclass(frozen=True, slots=True)
class Space:
    """Where texts lie, and the centres of the topics there."""

    vectorizer: Any
    weights: Any
    svd: Any
    centres: Any

    def distances(self, texts: Sequence[str]) -> np.ndarray:
        """How far each text is from each centre, of shape (N, K)."""
        return self.centres.transform(_locate(self.svd, self.weights.transform(self.vectorizer.transform(texts))))


@dataclass(slots=True)
class Sums:
    """What is summed over the rows of a topic."""

    num_rows: int = 0
    num_chars: int = 0
    num_refusals: int = 0


def write_topics(path: Path, out: Path, *, num_topics: int, seed: int) -> list[Topic]:
    """Sort the rows of a data artifact into topics, largest first; writes each row's topic into a folder.

    The same rows and seed give the same topics. They are fitted on at most 50,000 rows, drawn by their ids.
    """
    from threadpoolctl import threadpool_limits

    file = find_table(path)
    texts = list(_draw(file, seed))
    if not texts:
        pq.write_table(ROWS_SCHEMA.empty_table(), out / ROWS_FILE)
        return []
    # More threads add numbers in another order, and a row between two topics would change its place.
    with threadpool_limits(limits=1):
        space = _fit(texts, num_topics, seed)
        distances_FK = space.distances(texts)
        names = _name(texts, distances_FK)
        sums = _assign(file, out / ROWS_FILE, space, names)
    is_document = holds_documents(file)
    topics = [
        _topic(name, total, _nearest(texts, distances_F), is_document)
        for name, total, distances_F in zip(names, sums, distances_FK.T, strict=True)
        if total.num_rows
    ]
    return sorted(topics, key=lambda topic: (-topic.num_rows, topic.name))


def read_topics(folder: Path) -> list[Topic]:
    """The topics that the stage `inspect` wrote; none where there is no such file."""
    file = folder / TOPICS_FILE
    return TypeAdapter(list[Topic]).validate_json(file.read_bytes()) if file.is_file() else []


def _draw(file: Path, seed: int) -> Iterator[str]:
    """What is asked in at most 50,000 rows."""
    ids = pq.read_table(file, columns=["id"])["id"]
    fractions_N = np.array([group_fraction(row_id.as_py(), seed) for row_id in ids])
    limit = np.partition(fractions_N, MAX_NUM_FIT_ROWS)[MAX_NUM_FIT_ROWS] if len(fractions_N) > MAX_NUM_FIT_ROWS else 1
    start = 0
    for batch in read_batches(file):
        is_drawn = fractions_N[start : start + batch.num_rows] < limit
        start += batch.num_rows
        if is_drawn.any():
            yield from _asked(batch.filter(is_drawn))


def _asked(batch: Batch) -> list[str]:
    return pc.utf8_slice_codeunits(batch.texts("questions"), 0, NUM_CHARS_READ).to_pylist()


def _fit(texts: Sequence[str], num_topics: int, seed: int) -> Space:
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    vectorizer = HashingVectorizer(
        analyzer="char",
        ngram_range=(1, 3),
        n_features=NUM_FEATURES,
        alternate_sign=False,
        norm=None,  # pyright: ignore[reportArgumentType]
    )
    counts = vectorizer.transform(texts)
    weights = TfidfTransformer(sublinear_tf=True).fit(counts)
    vectors = weights.transform(counts)
    svd = TruncatedSVD(min(NUM_DIMENSIONS, len(texts)), random_state=seed)
    # Of one row, or of equal ones, there is no variance to explain, and scikit-learn divides by it.
    with np.errstate(invalid="ignore", divide="ignore"):
        svd.fit(vectors)
    num_clusters = max(1, min(num_topics, len(texts) // MIN_NUM_ROWS_PER_TOPIC))
    centres = MiniBatchKMeans(num_clusters, batch_size=2048, n_init=3, random_state=seed)  # pyright: ignore[reportArgumentType]
    return Space(vectorizer, weights, svd, centres.fit(_locate(svd, vectors)))


def _locate(svd: Any, vectors: Any) -> np.ndarray:
    from sklearn.preprocessing import normalize

    located: Any = normalize(svd.transform(vectors))
    return located


def _name(texts: Sequence[str], distances_FK: np.ndarray) -> list[str]:
    """A name of up to three words for each topic, no two alike."""
    label_F = distances_FK.argmin(1)
    rows = [_spread(np.flatnonzero(label_F == topic)) for topic in range(distances_FK.shape[1])]
    counts = [count_terms(texts[at][:NUM_CHARS_NAMED_BY] for at in chosen) for chosen in rows]
    everywhere = Counter[str]()
    for inside in counts:
        everywhere.update(inside)
    names: list[str] = []
    for inside, chosen in zip(counts, rows, strict=True):
        words = choose_terms(inside, len(chosen), everywhere, sum(map(len, rows)))
        names.append(_unused("·".join(words[:NUM_WORDS]) or UNNAMED, names))
    return names


def _spread(rows: np.ndarray) -> list[int]:
    """At most as many rows as a name needs, from all over the data."""
    return rows[:: 1 + len(rows) // NUM_ROWS_NAMED_BY].tolist()


def _unused(name: str, names: Sequence[str]) -> str:
    number = 1 + sum(other == name or other.startswith(f"{name}·") for other in names)
    return f"{name}·{number}" if number > 1 else name


def _nearest(texts: list[str], distances_F: np.ndarray) -> list[str]:
    """The texts nearest to a centre, no two alike."""
    near = [excerpt(texts[at]) for at in np.argsort(distances_F, kind="stable")[: 10 * NUM_EXAMPLES]]
    return list(dict.fromkeys(near))[:NUM_EXAMPLES]


def _assign(file: Path, out: Path, space: Space, names: Sequence[str]) -> list[Sums]:
    """Write the topic of every row; the sums of each topic."""
    sums = [Sums() for _ in names]
    with pq.ParquetWriter(out, ROWS_SCHEMA, compression="zstd") as writer:
        for batch in read_batches(file):
            label_N = space.distances(_asked(batch)).argmin(1).tolist()
            writer.write_batch(pa.record_batch([batch.column("id"), [names[label] for label in label_N]], ROWS_SCHEMA))
            _add(sums, label_N, batch.texts("answers"))
    return sums


def _add(sums: Sequence[Sums], label_N: Sequence[int], answers: pa.StringArray) -> None:
    num_chars_N = pc.utf8_length(answers).to_pylist()
    for label, num_chars, is_refusal in zip(label_N, num_chars_N, _find_refusals(answers), strict=True):
        sums[label].num_rows += 1
        sums[label].num_chars += num_chars
        sums[label].num_refusals += is_refusal


def _find_refusals(answers: pa.StringArray) -> list[bool]:
    return evaluate(refusal.check_column(text_column(), refusal.Config()).condition, answers).to_pylist()


def _topic(name: str, sums: Sums, examples: list[str], is_document: bool) -> Topic:
    num_refusals = None if is_document else sums.num_refusals
    return Topic(name, sums.num_rows, sums.num_chars / sums.num_rows, num_refusals, examples)
