"""Measures of every row of a batch: turns, characters by part and by class, and how well its text compresses.

R rows of a batch, M messages of them (a document is one), C classes of characters.
"""

# ruff: noqa: N802, N803, N806, N815  (names of arrays end with their shape)
# pyarrow.compute makes its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from baihua.data.batch import Batch
from baihua.data.inspect.char_classes import HAN, OTHER, count_classes, join_bytes
from baihua.data.rows import DOCUMENT
from baihua.data.shards import row_groups

# A thousand conversations take a few MB; a thousand documents of 10,000 characters take 300 MB for a moment.
NUM_ROWS_PER_BATCH = 1024
# Shorter texts hardly compress, and the first 4 KB are enough to show repetition (20 microseconds a row).
MIN_NUM_BYTES, MAX_NUM_BYTES = 200, 4096
ROLES = {"questions": "user", "answers": "assistant", "text": DOCUMENT}
NUM_EXCERPT_CHARS = 160


@dataclass(frozen=True, slots=True)
class RowMeasures:
    """Measures of R rows.

    `num_chars` holds the characters of each part, `num_chars_RC` those of each class; `compression_R` is the size of
    a row's compressed text divided by that of the text, NaN for a short text.
    """

    num_turns_R: np.ndarray
    num_chars: dict[str, np.ndarray]
    num_chars_RC: np.ndarray
    compression_R: np.ndarray

    @property
    def num_letters_R(self) -> np.ndarray:
        """Letters of each row in any script."""
        return self.num_chars_RC[:, OTHER:].sum(1)

    @property
    def han_share_R(self) -> np.ndarray:
        """Share of Han characters among letters, 0 for a row without letters."""
        return self.num_chars_RC[:, HAN:].sum(1) / np.maximum(self.num_letters_R, 1)


def read_batches(file: Path) -> Iterator[Batch]:
    """Rows of conversations or documents, in order, never all in memory."""
    for source in row_groups(file):
        table = source.read()
        for start in range(0, table.num_rows, NUM_ROWS_PER_BATCH):
            yield Batch(table.slice(start, NUM_ROWS_PER_BATCH))


def measure(batch: Batch) -> RowMeasures:
    """Measure every row."""
    lists, num_rows = batch.table["messages"].combine_chunks(), batch.num_rows
    row_M = np.repeat(np.arange(num_rows), pc.list_value_length(lists).to_numpy())

    def sum_rows(values_M: np.ndarray) -> np.ndarray:
        # The sums are whole numbers far below 2**53, so adding them as float64 loses nothing.
        return np.bincount(row_M, values_M, num_rows).astype(np.int64)

    role_M, contents, inputs = (pc.struct_field(pc.list_flatten(lists), name) for name in ("role", "content", "input"))
    num_chars_MC = count_classes(contents) + count_classes(inputs)
    masks = {part: pc.equal(role_M, role).to_numpy(zero_copy_only=False) for part, role in ROLES.items()}
    raw, begin_M = join_bytes(contents)
    begin_R = begin_M[np.searchsorted(row_M, np.arange(num_rows + 1))].tolist()
    return RowMeasures(
        num_turns_R=sum_rows(masks["questions"] | masks["answers"]),
        num_chars={part: sum_rows(num_chars_MC.sum(1) * mask_M) for part, mask_M in masks.items()},
        num_chars_RC=np.stack([sum_rows(num_chars_M) for num_chars_M in num_chars_MC.T], axis=1),
        compression_R=np.array([_compression(raw[begin:end]) for begin, end in pairwise(begin_R)]),
    )


def _compression(text: bytes) -> float:
    text = text[:MAX_NUM_BYTES]
    return len(zlib.compress(text, 1)) / len(text) if len(text) >= MIN_NUM_BYTES else float("nan")


def excerpt(text: str) -> str:
    """The start of a text, on one line, without characters that would move a terminal's cursor."""
    # Cutting first keeps a book cheap; twice the length leaves enough when runs of spaces shrink.
    words = text[: 2 * NUM_EXCERPT_CHARS].split()
    start = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(words))
    is_cut = len(start) > NUM_EXCERPT_CHARS or len(text) > 2 * NUM_EXCERPT_CHARS
    return start[:NUM_EXCERPT_CHARS] + ("…" if is_cut else "")
