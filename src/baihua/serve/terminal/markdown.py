"""Markdown of a model, for a terminal: what may be shown of it, where its blocks end, and how they look."""

import itertools
from collections.abc import Sequence
from typing import ClassVar

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownContext, MarkdownElement, Paragraph
from rich.syntax import Syntax
from rich.text import Text

from baihua.serve.terminal.chinese_text import ChineseText
from baihua.serve.terminal.screen import printable

# As rich parses; the ends of blocks must be the same.
PARSER = MarkdownIt().enable("strikethrough").enable("table")


def blocks(text: str) -> list[str]:
    """A text cut where its outermost blocks begin; while it grows, nothing can change any but the last."""
    starts = [token.map[0] for token in PARSER.parse(text) if token.level == 0 and token.map and token.nesting >= 0]
    lines = text.split("\n")
    cuts = [0, *starts[1:], len(lines)]
    parts = ["\n".join(lines[start:end]) for start, end in itertools.pairwise(cuts)]
    return [part + "\n" for part in parts[:-1]] + parts[-1:]


class _Paragraph(Paragraph):
    """A paragraph that breaks where Chinese breaks."""

    def on_enter(self, context: MarkdownContext) -> None:
        super().on_enter(context)
        self.text = ChineseText()


class _Heading(Heading):
    """A heading at the left, as long as its text."""

    def on_enter(self, context: MarkdownContext) -> None:
        super().on_enter(context)
        self.text = ChineseText()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.text


class _CodeBlock(CodeBlock):
    """Code between its fences, without a frame or indent, so that it can be copied."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        name = "" if self.lexer_name == "text" else self.lexer_name
        yield Text(f"```{name}", style="bright_black", no_wrap=True, overflow="crop")
        code = str(self.text).rstrip("\n")
        yield Syntax(code, self.lexer_name, theme="ansi_dark", background_color="default", word_wrap=True)
        yield Text("```", style="bright_black")


class Answer(Markdown):
    """Blocks of an answer; links are written out, because a terminal's own hide where they lead."""

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
    # An entity such as &#27; becomes a control character only when it is parsed.
    for token in tokens:
        token.content = printable(token.content)
        token.attrs = {name: printable(str(value)) for name, value in token.attrs.items()}
        _clean(token.children or ())
