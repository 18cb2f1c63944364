"""Read data batch by batch and measure every row: how long, how Chinese, how repetitive.

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
import pyarrow as pa
import pyarrow.compute as pc

from baihua.data.batch import Batch
from baihua.data.inspect import letters
from baihua.data.rows import DOCUMENT
from baihua.data.shards import row_groups

# A thousand conversations take a few MB; a thousand documents of 10,000 characters take 300 MB for a moment.
NUM_ROWS_PER_BATCH = 1024
# Shorter texts hardly shrink at all, and the first 4 KB are enough to see repetition (20 microseconds a row).
MIN_NUM_BYTES, MAX_NUM_BYTES = 200, 4096
ROLES = {"questions": "user", "answers": "assistant", "text": DOCUMENT}
NUM_EXCERPT_CHARS = 160


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of each row.

    `num_chars` is that of each part, `letters_RC` counts the characters of each class, `squeezed_R` is the size
    of a row's compressed text over that of the text, not a number where the text is short.
    """

    num_turns_R: np.ndarray
    num_chars: dict[str, np.ndarray]
    letters_RC: np.ndarray
    squeezed_R: np.ndarray

    @property
    def num_chars_R(self) -> np.ndarray:
        """All characters of each row."""
        return self.letters_RC.sum(1)

    @property
    def han_share_R(self) -> np.ndarray:
        """Share of Han characters among letters, 0 for a row without letters."""
        num_letters_R = self.letters_RC[:, letters.OTHER :].sum(1)
        return self.letters_RC[:, letters.HAN :].sum(1) / np.maximum(num_letters_R, 1)


def read_batches(file: Path) -> Iterator[Batch]:
    """Rows of conversations or documents, in order, never all in memory."""
    for source in row_groups(file):
        table = source.read()
        for start in range(0, table.num_rows, NUM_ROWS_PER_BATCH):
            yield Batch(table.slice(start, NUM_ROWS_PER_BATCH))


def measure(batch: Batch) -> Measured:
    """Turns, characters of each part, characters by class, and repetition of every row."""
    lists, num_rows = batch.table["messages"].combine_chunks(), batch.num_rows
    row_M = np.repeat(np.arange(num_rows), pc.list_value_length(lists).to_numpy())
    role_M, contents, inputs = (pc.struct_field(pc.list_flatten(lists), name) for name in ("role", "content", "input"))
    letters_MC = letters.count_letters(contents) + letters.count_letters(inputs)
    masks = {part: pc.equal(role_M, role).to_numpy(zero_copy_only=False) for part, role in ROLES.items()}
    return Measured(
        num_turns_R=_sum_by(row_M, masks["questions"] | masks["answers"], num_rows),
        num_chars={part: _sum_by(row_M, letters_MC.sum(1) * mask_M, num_rows) for part, mask_M in masks.items()},
        letters_RC=np.stack([_sum_by(row_M, letters_M, num_rows) for letters_M in letters_MC.T], axis=1),
        squeezed_R=_squeeze(contents, row_M, num_rows),
    )


def excerpt(text: str) -> str:
    """The start of a text, on one line, without characters that would move a terminal's cursor."""
    # Cutting first keeps a book cheap; twice the length leaves enough when runs of spaces shrink.
    words = text[: 2 * NUM_EXCERPT_CHARS].split()
    start = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(words))
    is_cut = len(start) > NUM_EXCERPT_CHARS or len(text) > 2 * NUM_EXCERPT_CHARS
    return start[:NUM_EXCERPT_CHARS] + ("…" if is_cut else "")


def _sum_by(row_M: np.ndarray, values_M: np.ndarray, num_rows: int) -> np.ndarray:
    # The sums are whole numbers far below 2**53, so adding them as float64 loses nothing.
    return np.bincount(row_M, values_M, num_rows).astype(np.int64)


def _squeeze(contents: pa.StringArray, row_M: np.ndarray, num_rows: int) -> np.ndarray:
    raw, begin_M = letters.raw_text(contents)
    begin_R = begin_M[np.searchsorted(row_M, np.arange(num_rows + 1))].tolist()
    view = memoryview(raw)
    return np.array([_squeezed(view[begin : min(end, begin + MAX_NUM_BYTES)]) for begin, end in pairwise(begin_R)])


def _squeezed(text: memoryview) -> float:
    return len(zlib.compress(text, 1)) / len(text) if len(text) >= MIN_NUM_BYTES else float("nan")
