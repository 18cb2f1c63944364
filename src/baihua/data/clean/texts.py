"""What filters do with texts: changes to the prose around code, character n-grams, and patterns read from a file.

N-grams of characters find similar texts in any script without word segmentation.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

# A run of three or more backticks opens a block wherever it stands: chat answers often put it after a colon.
# Tildes do so only at the start of a line, since elsewhere they are a drawn-out word (好的~~~).
BLOCK = (
    r"(?P<ticks>`{3,}).*?(?:(?P<ticks_end>(?P=ticks)`*)|\Z)"
    r"|^[^\S\n]*(?P<tildes>~{3,}).*?(?:(?P<tildes_end>^[^\S\n]*(?P=tildes)~*)|\Z)"
)
# One or two backticks enclose code within a line; no longer run is tried there, which keeps the search linear.
INLINE = r"(?<!`)(?P<inline>`{1,2})(?!`)[^\n]*?(?<!`)(?P=inline)(?!`)"
BLOCKS = re.compile(BLOCK, re.DOTALL | re.MULTILINE)
CODE = re.compile(f"{BLOCK}|{INLINE}", re.DOTALL | re.MULTILINE)
PRIVATE = [chr(code) for code in range(0xE000, 0xE010)]


def replace_blocks(text: str, new: str, *, only_closed: bool = False) -> str:
    """The text with something else in place of each fenced block; a block that is not closed reaches to the end."""
    if "```" not in text and "~~~" not in text:
        return text
    return BLOCKS.sub(lambda m: m[0] if only_closed and not (m["ticks_end"] or m["tildes_end"]) else new, text)


def change_prose(text: str, change: Callable[[str], str]) -> str:
    """The text with a change made outside its fenced blocks and inline code.

    The change sees one private character (U+E000 to U+E00F) in place of each piece of code, so it still sees whole
    lines. A change that loses such a character is not made at all.
    """
    if "`" not in text and "~~~" not in text:
        return change(text)
    mark = next((char for char in PRIVATE if char not in text), None)
    if mark is None:
        return text
    pieces = [match.group() for match in CODE.finditer(text)]
    changed = change(CODE.sub(mark, text))
    if changed.count(mark) != len(pieces):
        return text
    prose = changed.split(mark)
    return prose[0] + "".join(piece + after for piece, after in zip(pieces, prose[1:], strict=True))


def change_if_stable(text: str, change: Callable[[str], str]) -> str:
    """The changed text, or the text as it was if a second change would change it again: there the rules are unsure."""
    changed = change(text)
    return changed if changed == text or change(changed) == changed else text


def normalise(text: str) -> str:
    """The letters and digits of a text in NFKC and without case."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def grams(text: str, n: int) -> set[str]:
    """Every run of n characters; a shorter text is one gram, an empty text has none."""
    if len(text) <= n:
        return {text} if text else set()
    return {text[start : start + n] for start in range(len(text) - n + 1)}


def read_patterns(file: Path) -> dict[str, str]:
    """The patterns of a YAML file by name, as regular expressions.

    In each, `<word>` is replaced by the pattern of that name before it. Line breaks in a pattern mean nothing, and
    those of a list are alternatives.
    """
    found: dict[str, str] = {}
    for name, value in yaml.safe_load(file.read_text(encoding="utf-8")).items():
        found[name] = fill("|".join([value] if isinstance(value, str) else value).replace("\n", ""), found)
    return found


def fill(pattern: str, words: Mapping[str, str]) -> str:
    """A pattern with each `<word>` replaced by the pattern of that name, where there is one."""
    return re.sub(r"<(\w+)>", lambda match: words.get(match[1], match[0]), pattern)
