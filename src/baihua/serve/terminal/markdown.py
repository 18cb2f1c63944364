"""Markdown in the terminal: blocks of an answer, rendered safely and with Chinese line breaking.

rich breaks lines at spaces only, and ends a line early before a long run without spaces. Here a line may break next to
any wide character, but no line begins with a closing mark or ends with an opening one: the strict core of the usual
rules (W3C, Requirements for Chinese Text Layout, section on line composition).
"""

import itertools
import unicodedata
from collections.abc import Sequence
from typing import ClassVar

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.cells import split_graphemes
from rich.console import Console, ConsoleOptions, JustifyMethod, OverflowMethod, RenderResult
from rich.containers import Lines
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownContext, MarkdownElement, Paragraph, TextElement
from rich.syntax import Syntax
from rich.text import Text

# Configured like rich's parser, so that both see the same blocks.
PARSER = MarkdownIt().enable("strikethrough").enable("table")
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


def blocks(text: str) -> list[str]:
    """Cut a text where its outermost blocks begin; as the text grows, only the last block can change."""
    starts = [token.map[0] for token in PARSER.parse(text) if token.level == 0 and token.map and token.nesting >= 0]
    lines = text.split("\n")
    cuts = [0, *starts[1:], len(lines)]
    parts = ["\n".join(lines[start:end]) for start, end in itertools.pairwise(cuts)]
    return [part + "\n" for part in parts[:-1]] + parts[-1:]


class _ChineseElement(TextElement):
    """Text with Chinese line breaking."""

    def on_enter(self, context: MarkdownContext) -> None:
        super().on_enter(context)
        self.text = ChineseText()


class _Paragraph(_ChineseElement, Paragraph):
    """A paragraph with Chinese line breaking."""


class _Heading(_ChineseElement, Heading):
    """A left-aligned heading without a frame."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.text


class _CodeBlock(CodeBlock):
    """Code between its fences, without a frame or indentation, so that it can be copied."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        name = "" if self.lexer_name == "text" else self.lexer_name
        yield Text(f"```{name}", style="bright_black", no_wrap=True, overflow="crop")
        code = str(self.text).rstrip("\n")
        yield Syntax(code, self.lexer_name, theme="ansi_dark", background_color="default", word_wrap=True)
        yield Text("```", style="bright_black")


class AnswerMarkdown(Markdown):
    """Blocks of an answer; link targets are written out, because terminal hyperlinks hide them."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "paragraph_open": _Paragraph,
        "heading_open": _Heading,
        "fence": _CodeBlock,
        "code_block": _CodeBlock,
    }

    def __init__(self, text: str) -> None:
        super().__init__(text, hyperlinks=False)
        _clean(self.parsed)


def _clean(tokens: Sequence[Token]) -> None:
    # Entities such as &#27; become control characters only when they are parsed.
    for token in tokens:
        token.content = printable(token.content)
        token.attrs = {name: printable(str(value)) for name, value in token.attrs.items()}
        _clean(token.children or ())


def printable(text: str) -> str:
    """A text without control characters except newline and tab, so that a model cannot control the terminal."""
    # Lone surrogates (Cs) are removed too: no stream can encode them.
    return "".join(char for char in text if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs"))
