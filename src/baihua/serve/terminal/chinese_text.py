"""Lines that break where Chinese may break: rich breaks at spaces alone, and leaves half lines before long words.

Follows the strict core of the usual rules (W3C, Requirements for Chinese Text Layout, section on line composition):
a line may break beside any wide character, but no line begins with a closing mark or ends with an opening one.
"""

from rich.cells import split_graphemes
from rich.console import Console, JustifyMethod, OverflowMethod
from rich.containers import Lines
from rich.text import Text

NOT_FIRST = frozenset("，。、；：？！”’」』）】》〉〕｝…—～·,.;:?!)]}%")
NOT_LAST = frozenset("“‘「『（【《〈〔｛([{")


class ChineseText(Text):
    """A rich Text that wraps by `breaks`."""

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
        """Lines of at most `width` cells."""
        lines = Lines()
        for line in self.split(allow_blank=True):
            line.expand_tabs(tab_size)
            for part in line.divide(breaks(line.plain, width)):
                part.rstrip()
                lines.append(part)
        return lines


def breaks(text: str, width: int) -> list[int]:
    """Where to break one line of text, as offsets, so that no part has more than `width` cells.

    What a reader sees as one character stays whole, however many code points it has.
    """
    spans, _ = split_graphemes(text)
    found: list[int] = []
    first, possible, used = 0, 0, 0
    for place, (start, end, cells) in enumerate(spans):
        if place and _may_break(spans[place - 1][2], cells, text[spans[place - 1][0]], text[start]):
            possible = place
        used += cells
        while used > width and first < place and not text[start:end].isspace():
            # Where nothing may break, it breaks right here: a long word, or a row of marks.
            first = possible if possible > first else place
            found.append(spans[first][0])
            used = sum(one[2] for one in spans[first : place + 1])
    return found


def _may_break(cells_before: int, cells_after: int, before: str, after: str) -> bool:
    if before in NOT_LAST or after in NOT_FIRST or after.isspace():
        return False
    return before.isspace() or 2 in (cells_before, cells_after)
