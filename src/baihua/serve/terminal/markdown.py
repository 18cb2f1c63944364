"""Markdown in the terminal: cutting an answer into blocks, and rendering them safely."""

import itertools
from collections.abc import Sequence
from typing import ClassVar

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownContext, MarkdownElement, Paragraph
from rich.syntax import Syntax
from rich.text import Text

from baihua.serve.terminal.line_breaks import ChineseText
from baihua.serve.terminal.screen import printable

# Configured like rich's parser, so that both see the same blocks.
PARSER = MarkdownIt().enable("strikethrough").enable("table")


def blocks(text: str) -> list[str]:
    """Cut a text where its outermost blocks begin; as the text grows, only the last block can change."""
    starts = [token.map[0] for token in PARSER.parse(text) if token.level == 0 and token.map and token.nesting >= 0]
    lines = text.split("\n")
    cuts = [0, *starts[1:], len(lines)]
    parts = ["\n".join(lines[start:end]) for start, end in itertools.pairwise(cuts)]
    return [part + "\n" for part in parts[:-1]] + parts[-1:]


class _Paragraph(Paragraph):
    """A paragraph with Chinese line breaking."""

    def on_enter(self, context: MarkdownContext) -> None:
        super().on_enter(context)
        self.text = ChineseText()


class _Heading(Heading):
    """A left-aligned heading without a frame."""

    def on_enter(self, context: MarkdownContext) -> None:
        super().on_enter(context)
        self.text = ChineseText()

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
