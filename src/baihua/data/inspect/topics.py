"""Topics of a data set: rows clustered by the characters of their questions, each topic named by its typical words.

Questions are compared by runs of one to three characters, which needs no word segmentation and works in any script.
N rows, F of them used for fitting, K topics.
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
from baihua.data.draw.choose import group_fraction
from baihua.data.filters import refusal
from baihua.data.inspect.row_measures import excerpt, read_batches
from baihua.data.inspect.topic_words import choose_words, count_words
from baihua.data.rows import find_table, holds_documents

TOPICS_FILE, ROWS_FILE = "topics.json", "topics.parquet"
ROWS_SCHEMA = pa.schema([("id", pa.string()), ("topic", pa.string())])
MAX_NUM_FIT_ROWS = 50_000
# A topic of fewer rows says nothing, so a small set gets fewer topics.
MIN_NUM_ROWS_PER_TOPIC = 10
# The first sentences tell what a row is about; reading the rest costs time.
NUM_CHARS_READ = 500
NUM_FEATURES, NUM_DIMENSIONS = 2**17, 64
NUM_ROWS_NAMED_BY, NUM_CHARS_NAMED_BY = 1000, 200
NUM_WORDS, NUM_EXAMPLES = 3, 3
UNNAMED = "其他"


@dataclass(frozen=True, slots=True)
class Topic:
    """Rows with similar questions.

    `mean_chars` is the mean length of the answers or documents; `num_refusals` counts the rows whose answer begins
    with a refusal, and is None for documents; `examples` are the questions nearest to the centre.
    """

    name: str
    num_rows: int
    mean_chars: float
    num_refusals: int | None
    examples: list[str]


def write_topics(path: Path, out: Path, *, num_topics: int, seed: int) -> list[Topic]:
    """Cluster the rows of a data artifact into topics, largest first, and write the topic of each row into a folder.

    The same rows and seed give the same topics. They are fitted on at most 50,000 rows, chosen by their ids.
    """
    from threadpoolctl import threadpool_limits

    file = find_table(path)
    texts = list(_choose_questions(file, seed))
    if not texts:
        pq.write_table(ROWS_SCHEMA.empty_table(), out / ROWS_FILE)
        return []
    # With more threads, sums are added in another order, and a row between two topics may change its topic.
    with threadpool_limits(limits=1):
        clusterer = _fit(texts, num_topics, seed)
        distances_FK = clusterer.transform(texts)
        names = _name(texts, distances_FK)
        sums_K3 = _assign(file, out / ROWS_FILE, clusterer, names)
    are_documents = holds_documents(file)
    topics = [
        Topic(name, rows, chars / rows, None if are_documents else refusals, _nearest(texts, distances_F))
        for name, (rows, chars, refusals), distances_F in zip(names, sums_K3.tolist(), distances_FK.T, strict=True)
        if rows
    ]
    return sorted(topics, key=lambda topic: (-topic.num_rows, topic.name))


def read_topics(folder: Path) -> list[Topic]:
    """The topics that the stage `inspect` wrote; none where there is no such file."""
    file = folder / TOPICS_FILE
    return TypeAdapter(list[Topic]).validate_json(file.read_bytes()) if file.is_file() else []


def _choose_questions(file: Path, seed: int) -> Iterator[str]:
    """The questions of at most 50,000 rows."""
    ids = pq.read_table(file, columns=["id"])["id"]
    fractions_N = np.array([group_fraction(row_id.as_py(), seed) for row_id in ids])
    limit = np.partition(fractions_N, MAX_NUM_FIT_ROWS)[MAX_NUM_FIT_ROWS] if len(fractions_N) > MAX_NUM_FIT_ROWS else 1
    start = 0
    for batch in read_batches(file):
        is_chosen = fractions_N[start : start + batch.num_rows] < limit
        start += batch.num_rows
        if is_chosen.any():
            yield from _questions(batch.filter(is_chosen))


def _questions(batch: Batch) -> list[str]:
    return pc.utf8_slice_codeunits(batch.texts("questions"), 0, NUM_CHARS_READ).to_pylist()


def _fit(texts: Sequence[str], num_topics: int, seed: int) -> Any:
    """A scikit-learn pipeline that transforms texts to their distances from each centre, of shape (N, K)."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    grams: dict[str, Any] = {"analyzer": "char", "ngram_range": (1, 3), "n_features": NUM_FEATURES, "norm": None}
    num_clusters: Any = max(1, min(num_topics, len(texts) // MIN_NUM_ROWS_PER_TOPIC))
    pipeline = make_pipeline(
        HashingVectorizer(alternate_sign=False, **grams),
        TfidfTransformer(sublinear_tf=True),
        TruncatedSVD(min(NUM_DIMENSIONS, len(texts)), random_state=seed),
        Normalizer(),
        MiniBatchKMeans(num_clusters, batch_size=2048, n_init=3, random_state=seed),  # pyright: ignore[reportArgumentType]
    )
    # One row, or equal rows, have no variance to explain, and scikit-learn divides by it.
    with np.errstate(invalid="ignore", divide="ignore"):
        return pipeline.fit(texts)


def _name(texts: list[str], distances_FK: np.ndarray) -> list[str]:
    """A unique name of up to three words for each topic."""
    label_F = distances_FK.argmin(1)
    labelled = [np.flatnonzero(label_F == topic) for topic in range(distances_FK.shape[1])]
    # Naming a topic needs fewer rows than finding it, spread evenly over the data.
    rows = [found[:: 1 + len(found) // NUM_ROWS_NAMED_BY].tolist() for found in labelled]
    counts = [count_words(texts[number][:NUM_CHARS_NAMED_BY] for number in chosen) for chosen in rows]
    everywhere = Counter[str]()
    for inside in counts:
        everywhere.update(inside)
    names: list[str] = []
    for inside, chosen in zip(counts, rows, strict=True):
        words = choose_words(inside, len(chosen), everywhere, sum(map(len, rows)))
        name = "·".join(words[:NUM_WORDS]) or UNNAMED
        num_same = sum(other == name or other.startswith(f"{name}·") for other in names)
        names.append(f"{name}·{num_same + 1}" if num_same else name)
    return names


def _nearest(texts: list[str], distances_F: np.ndarray) -> list[str]:
    """The distinct texts nearest to a centre."""
    near = [excerpt(texts[number]) for number in np.argsort(distances_F, kind="stable")[: 10 * NUM_EXAMPLES]]
    return list(dict.fromkeys(near))[:NUM_EXAMPLES]


def _assign(file: Path, out: Path, clusterer: Any, names: Sequence[str]) -> np.ndarray:
    """Write the topic of every row; returns rows, characters of answers and refusals per topic, int64 of (K, 3)."""
    sums_K3 = np.zeros((len(names), 3), np.int64)
    is_refusal = refusal.check_column(text_column(), refusal.Config()).condition
    with pq.ParquetWriter(out, ROWS_SCHEMA, compression="zstd") as writer:
        for batch in read_batches(file):
            label_N, answers = clusterer.transform(_questions(batch)).argmin(1), batch.texts("answers")
            topics = [names[label] for label in label_N.tolist()]
            writer.write_batch(pa.record_batch([batch.column("id"), topics], ROWS_SCHEMA))
            values = [pa.repeat(1, len(answers)), pc.utf8_length(answers), evaluate(is_refusal, answers)]
            np.add.at(sums_K3, label_N, np.column_stack([np.asarray(value, np.int64) for value in values]))
    return sums_K3
