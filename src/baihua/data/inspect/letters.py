"""Count the letters of many texts at once, by script and by the way Chinese is written.

N texts, C classes of characters.
"""

# ruff: noqa: N806  (names of arrays end with their shape)
# pyarrow.compute makes its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

import unicodedata
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from baihua.chat.zh import is_han

# Classes of characters. Han that both ways of writing share are `HAN`.
NO_LETTER, OTHER, LATIN, HAN, SIMPLIFIED, TRADITIONAL = range(6)
NUM_CLASSES = 6
NUM_CODES = 0x110000


def count_letters(texts: pa.Array) -> np.ndarray:
    """Characters of each class in each text, int64 of shape (N, C); a null is an empty text."""
    num_chars_N = pc.fill_null(pc.utf8_length(texts), 0).to_numpy(zero_copy_only=False)
    raw, _ = raw_text(texts)
    codes = np.frombuffer(raw.decode().encode("utf-32-le"), np.uint32)
    cells = np.repeat(np.arange(len(texts)) * NUM_CLASSES, num_chars_N) + class_table()[codes]
    return np.bincount(cells, minlength=len(texts) * NUM_CLASSES).reshape(-1, NUM_CLASSES)


def raw_text(texts: pa.Array) -> tuple[bytes, np.ndarray]:
    """All texts side by side in UTF-8, and where each begins and the last ends, of shape (N + 1)."""
    _, begins, data = texts.buffers()
    if not len(texts) or begins is None or data is None:
        return b"", np.zeros(len(texts) + 1, np.int32)
    offsets = np.frombuffer(begins, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return data[int(offsets[0]) : int(offsets[-1])].to_pybytes(), offsets - offsets[0]


@cache
def class_table() -> np.ndarray:
    """The class of every code point, uint8; 0.3 s the first time."""
    table = np.zeros(NUM_CODES, np.uint8)
    letters = [code for code in range(NUM_CODES) if unicodedata.category(chr(code)).startswith("L")]
    table[letters] = OTHER
    table[[code for code in letters if "LATIN" in unicodedata.name(chr(code), "")]] = LATIN
    han = [code for code in letters if is_han(chr(code))]
    table[han] = HAN
    table[_changed(han, "s2t", shared="big5")] = SIMPLIFIED
    table[_changed(han, "t2s", shared="gb2312")] = TRADITIONAL
    return table


def _changed(codes: list[int], conversion: str, *, shared: str) -> list[int]:
    """Characters that OpenCC writes another way, without those that the other way of writing has too.

    OpenCC turns 后 into 後, but 皇后 is written so in both; the character set of the other side tells.
    """
    import opencc

    # One character a line: OpenCC converts whole words, and a line break ends a word.
    lines = "\n".join(map(chr, codes))
    changed = opencc.OpenCC(conversion).convert(lines).split("\n")
    return [code for code, new in zip(codes, changed, strict=True) if new != chr(code) and not _has(shared, code)]


def _has(charset: str, code: int) -> bool:
    return bool(chr(code).encode(charset, "ignore"))
