"""Chinese text: Han characters, their share of the letters, and the marks that end a sentence.

Display width in terminal columns is `rich.cells.cell_len`.
"""

import re
import unicodedata

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
"""Han characters as ranges for a regex character class, as in `f"[{HAN}]"`, in Python's `re` and in Rust (Daft).

Unified ideographs with extension A, compatibility ideographs, and planes 2 and 3 up to extension H (Unicode 15.1).
Not `\\p{Han}`, which `re` lacks and which adds 々, 〇 and radicals. The ranges hold a few code points that are still
unassigned; where only letters may count, write `[...&&\\p{L}]` in Rust.
"""
SENTENCE_ENDS = "。！？!?"
"""Marks that always end a sentence, for a regex character class; a `.` ends one only before a space."""

HAN_CHAR = re.compile(f"[{HAN}]")


def is_han(char: str) -> bool:
    """Whether a character is a Chinese ideograph."""
    return HAN_CHAR.fullmatch(char) is not None


def han_share(text: str) -> float:
    """Share of Han characters among letters, 0 to 1; 0 for a text without letters."""
    letters = [char for char in text if unicodedata.category(char).startswith("L")]
    return sum(map(is_han, letters)) / len(letters) if letters else 0.0


def is_mainly_chinese(text: str) -> bool:
    """Whether at least half of a text's letters are Han; false for a text without letters."""
    return han_share(text) >= 0.5
