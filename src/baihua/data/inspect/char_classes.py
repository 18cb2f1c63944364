"""Characters of many texts counted by class: script, and for Han whether simplified or traditional Chinese has them.

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

# HAN are the Han characters that simplified and traditional Chinese share.
NO_LETTER, OTHER, LATIN, HAN, SIMPLIFIED, TRADITIONAL = range(6)
NUM_CLASSES = 6
NUM_CODES = 0x110000


def count_classes(texts: pa.Array) -> np.ndarray:
    """Characters of each class in each text, int64 of shape (N, C); a null counts as an empty text."""
    num_chars_N = pc.fill_null(pc.utf8_length(texts), 0).to_numpy(zero_copy_only=False)
    raw, _ = join_bytes(texts)
    codes = np.frombuffer(raw.decode().encode("utf-32-le"), np.uint32)
    cells = np.repeat(np.arange(len(texts)) * NUM_CLASSES, num_chars_N) + class_table()[codes]
    return np.bincount(cells, minlength=len(texts) * NUM_CLASSES).reshape(-1, NUM_CLASSES)


def join_bytes(texts: pa.Array) -> tuple[bytes, np.ndarray]:
    """All texts joined in UTF-8, and the offsets where each begins and the last ends, of shape (N + 1)."""
    _, begins, data = texts.buffers()
    if not len(texts) or begins is None or data is None:
        return b"", np.zeros(len(texts) + 1, np.int32)
    offsets = np.frombuffer(begins, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return data[int(offsets[0]) : int(offsets[-1])].to_pybytes(), offsets - offsets[0]


@cache
def class_table() -> np.ndarray:
    """The class of every code point, uint8; building it takes 0.3 s."""
    table = np.zeros(NUM_CODES, np.uint8)
    letters = [code for code in range(NUM_CODES) if unicodedata.category(chr(code)).startswith("L")]
    table[letters] = OTHER
    table[[code for code in letters if "LATIN" in unicodedata.name(chr(code), "")]] = LATIN
    han = [code for code in letters if is_han(chr(code))]
    table[han] = HAN
    table[_exclusive(han, "s2t", shared="big5")] = SIMPLIFIED
    table[_exclusive(han, "t2s", shared="gb2312")] = TRADITIONAL
    return table


def _exclusive(codes: list[int], conversion: str, *, shared: str) -> list[int]:
    """Characters that OpenCC converts and that the character set of the other script lacks.

    OpenCC turns 后 into 後, but 皇后 is spelled alike in both scripts: Big5 has 后 too.
    """
    import opencc

    # One character a line: OpenCC converts whole words, and a line break ends a word.
    lines = "\n".join(map(chr, codes))
    converted = opencc.OpenCC(conversion).convert(lines).split("\n")
    pairs = zip(map(chr, codes), converted, strict=True)
    return [ord(char) for char, new in pairs if new != char and not char.encode(shared, "ignore")]
