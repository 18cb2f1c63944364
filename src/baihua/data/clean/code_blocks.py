"""Where the code in a text is, so that what is done to prose leaves it alone."""

import re
from collections.abc import Callable, Iterator

# A run of three or more backticks opens a block wherever it stands: chat answers often put it behind a colon.
# Tildes do only at the start of a line, since elsewhere they are a drawn-out word (好的~~~). One or two backticks
# are code within their line; no longer run is tried there, which keeps the search linear.
CODE = re.compile(
    r"(?P<block>`{3,}).*?(?:(?P=block)`*|\Z)"
    r"|^[^\S\n]*(?P<tildes>~{3,}).*?(?:^[^\S\n]*(?P=tildes)~*|\Z)"
    r"|(?<!`)(?P<inline>`{1,2})(?!`)[^\n]*?(?<!`)(?P=inline)(?!`)",
    re.DOTALL | re.MULTILINE,
)
PRIVATE = [chr(code) for code in range(0xE000, 0xE010)]


def change_prose(text: str, change: Callable[[str], str]) -> str:
    """The text with a change made outside its code: fenced blocks (to the end where unclosed) and inline code.

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
    return _put_back(changed, mark, pieces) if changed.count(mark) == len(pieces) else text


def settle(text: str, change: Callable[[str], str]) -> str:
    """The changed text, or the text as it was where a second change would do more: there the rules are unsure."""
    changed = change(text)
    return changed if changed == text or change(changed) == changed else text


def _put_back(text: str, mark: str, pieces: list[str]) -> str:
    left: Iterator[str] = iter(pieces)
    return re.sub(mark, lambda _: next(left), text) if pieces else text
