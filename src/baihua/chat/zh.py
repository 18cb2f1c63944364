"""Facts about Chinese text: how much of it is Han, and how wide it is on a terminal."""

import unicodedata

from wcwidth import wcswidth

# Unified ideographs and extension A, compatibility ideographs, extensions B and later (Unicode 15.1).
HAN_RANGES = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF))


def is_han(char: str) -> bool:
    """Whether a character is a Chinese ideograph."""
    code = ord(char)
    return any(first <= code <= last for first, last in HAN_RANGES)


def han_share(text: str) -> float:
    """Share of Han characters among letters, 0 to 1; 0 for a text without letters."""
    letters = [char for char in text if unicodedata.category(char).startswith("L")]
    return sum(map(is_han, letters)) / len(letters) if letters else 0.0


def is_mainly_chinese(text: str) -> bool:
    """Whether at least half of a text's letters are Han; false for a text without letters."""
    return han_share(text) >= 0.5


def display_width(text: str) -> int:
    """Columns that a text takes on a terminal; control characters count none."""
    return max(wcswidth(text), 0) if text.isprintable() else sum(max(wcswidth(char), 0) for char in text)
