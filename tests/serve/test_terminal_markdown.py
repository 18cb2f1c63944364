"""What a terminal is sent for the Markdown of a model."""

import io
import os
import re
import signal
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from baihua.chat.types import Span
from baihua.serve.terminal.markdown import NOT_FIRST, AnswerMarkdown, blocks, find_breaks
from baihua.serve.terminal.screen import TerminalScreen

TEXT = """## 标题

第一段**很重要**。

1. 一
2. 二

```python
x = "`"  # 注释
```

| 甲 | 乙 |
|---|---|
| 1 | 2 |

[完](http://a.example/)"""


def terminal(*, width: int = 40, height: int = 12) -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, width=width, height=height, force_terminal=True, color_system=None), written


def shown(text: str, *, width: int = 40, size: int = 3) -> str:
    """What a pipe would read of an answer that comes in pieces: no live region, everything else."""
    written = io.StringIO()
    screen = TerminalScreen(Console(file=written, width=width, force_terminal=False, highlight=False))
    screen.wait()
    for start in range(0, len(text), size):
        screen.show(text[start : start + size])
    screen.finish()
    return written.getvalue()


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_blocks_are_printed_once_in_order_however_the_pieces_are_cut(size: int) -> None:
    console, written = terminal()
    screen = TerminalScreen(console)
    screen.wait()
    for start in range(0, len(TEXT), size):
        screen.show(TEXT[start : start + size])
    screen.finish()
    # Whatever was taken back stood in lines that were erased.
    assert _left_on_screen(written.getvalue()) == [
        "标题", "", "第一段很重要。", "", " 1 一", " 2 二", "", "```python", 'x = "`"  # 注释', "```", "", " 甲  乙",
        " ──────", " 1   2", "", "完 (http://a.example/)",
    ]  # fmt: skip


def _left_on_screen(written: str) -> list[str]:
    """Lines that a terminal shows after carriage returns, erasures and upward moves."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", written):
        if part == "\n":
            row += 1
            lines += [""] if row == len(lines) else []
        elif part.endswith("A") and part.startswith("\x1b"):
            row -= int(part[2:-1] or 1)
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith(("\x1b", "\r")):
            lines[row] += part
    while lines and not lines[-1].strip():
        lines.pop()
    return [line.rstrip() for line in lines]


def test_a_block_longer_than_the_screen_is_printed_whole() -> None:
    console, written = terminal(height=5)
    screen = TerminalScreen(console)
    screen.wait()
    text = "\n".join(f"{number}. 第{number}项" for number in range(1, 30))
    for line in text.splitlines(keepends=True):
        screen.show(line)
    screen.finish()
    found = written.getvalue()
    assert all(f"{number:>2} 第{number}项" in found for number in range(1, 30))
    drawn = re.split(r"\r\x1b\[2K", found)
    assert max(part.count("\n") for part in drawn[:-1]) <= 5


def test_plain_answers_come_as_they_are() -> None:
    assert shown("**粗** [x](y)\n一") == "**粗** [x](y)\n一\n"
    console, written = terminal()
    screen = TerminalScreen(console)
    screen.use_markdown(False)
    screen.wait()
    screen.show("**粗**")
    screen.finish()
    assert written.getvalue() == "**粗**\n"


@pytest.mark.parametrize("text", ["\x1b]0;evil\x07", "&#27;]0;evil&#7;", "`\x1b[2J`", "[a](b&#13;c)", "a\x9b2Jb", "\r"])
def test_no_control_character_of_a_model_reaches_the_terminal(text: str) -> None:
    for screen_text in (shown(text + "\n\nb"), _rendered(text)):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", screen_text)


def _rendered(text: str) -> str:
    written = io.StringIO()
    Console(file=written, force_terminal=False).print(AnswerMarkdown(text))
    return written.getvalue()


def test_a_prompt_marks_its_control_tokens() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, color_system="standard", highlight=False)
    TerminalScreen(console).show_prompt([Span("<|im_start|>", is_control=True), Span("user\n你好")])
    assert written.getvalue() == "\x1b[7m<|im_start|>\x1b[0muser\n你好\n"


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
def test_control_c_waits_until_a_block_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    console, written = terminal()
    screen = TerminalScreen(console)
    screen.wait()
    real = console.print
    monkeypatch.setattr(
        console, "print", lambda *given, **more: (os.kill(os.getpid(), signal.SIGINT), real(*given, **more))
    )
    with pytest.raises(KeyboardInterrupt):
        screen.show("第一段\n\n第二")
    monkeypatch.undo()
    screen.finish()
    assert _left_on_screen(written.getvalue()) == ["第一段", "", "第二"]


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("使用 Python 编写程序", 12, ["使用 Python ", "编写程序"]),
        ("一二三，四", 6, ["一二", "三，四"]),
        ("他说“好”", 6, ["他说", "“好”"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("好👨‍👩‍👧好", 4, ["好👨‍👩‍👧", "好"]),
        ("", 4, [""]),
        ("，，，，", 4, ["，，", "，，"]),
    ],
)
def test_lines_break_where_chinese_breaks(text: str, width: int, lines: list[str]) -> None:
    assert _parts(text, width) == lines


def _parts(text: str, width: int) -> list[str]:
    places = find_breaks(text, width)
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


@given(st.text("一二，。“”ab c，👋", max_size=40), st.integers(2, 12))
def test_no_line_is_wider_than_the_screen(text: str, width: int) -> None:
    parts = _parts(text, width)
    assert "".join(parts) == text
    assert all(cell_len(part.rstrip()) <= width for part in parts)
    assert all(parts) or text == ""


def test_marks_do_not_begin_a_line_where_another_place_can_be_found() -> None:
    text = "白话是一个工具，它把文字变成模型。" * 5
    assert not any(part[0] in NOT_FIRST for part in _parts(text, 21))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("一", ["一"]),
        ("一\n", ["一\n"]),
        ("一\n\n二", ["一\n\n", "二"]),
        ("- 一\n\n- 二", ["- 一\n\n- 二"]),
        ("```\n\n一\n\n", ["```\n\n一\n\n"]),
        ("# 一\n二\n\n三", ["# 一\n", "二\n\n", "三"]),
        ("a\u2028b\n\nc", ["a\u2028b\n\n", "c"]),
        ("", [""]),
    ],
)
def test_blocks_end_where_nothing_can_change_them(text: str, parts: list[str]) -> None:
    assert blocks(text) == parts
