"""Line breaking for Chinese: rich breaks at spaces only, and ends a line early before a long run without spaces.

Implements the strict core of the usual rules (W3C, Requirements for Chinese Text Layout, section on line composition):
a line may break next to any wide character, but no line begins with a closing mark or ends with an opening one.
"""

from rich.cells import split_graphemes
from rich.console import Console, JustifyMethod, OverflowMethod
from rich.containers import Lines
from rich.text import Text

NOT_FIRST = frozenset("，。、；：？！”’」』）】》〉〕｝…—～·,.;:?!)]}%")
NOT_LAST = frozenset("“‘「『（【《〈〔｛([{")


class ChineseText(Text):
    """A rich Text that wraps at `find_breaks`."""

    def wrap(
        self,
        console: Console,
        width: int,
        *,
        justify: JustifyMethod | None = None,
        overflow: OverflowMethod | None = None,
        tab_size: int = 8,
        no_wrap: bool | None = None,
    ) -> Lines:
        """Lines of at most `width` columns."""
        lines = Lines()
        for line in self.split(allow_blank=True):
            line.expand_tabs(tab_size)
            for part in line.divide(find_breaks(line.plain, width)):
                part.rstrip()
                lines.append(part)
        return lines


def find_breaks(text: str, width: int) -> list[int]:
    """Offsets that divide one line of text into parts of at most `width` columns.

    Grapheme clusters of several code points stay whole.
    """
    spans, _ = split_graphemes(text)
    breaks: list[int] = []
    first, possible, used = 0, 0, 0
    for place, (start, end, columns) in enumerate(spans):
        if place and _may_break(spans[place - 1][2], columns, text[spans[place - 1][0]], text[start]):
            possible = place
        used += columns
        while used > width and first < place and not text[start:end].isspace():
            # Without a permitted break, as in a long word or a row of marks, break right here.
            first = possible if possible > first else place
            breaks.append(spans[first][0])
            used = sum(one[2] for one in spans[first : place + 1])
    return breaks


def _may_break(columns_before: int, columns_after: int, before: str, after: str) -> bool:
    if before in NOT_LAST or after in NOT_FIRST or after.isspace():
        return False
    return before.isspace() or 2 in (columns_before, columns_after)
