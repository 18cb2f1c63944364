"""`baihua show DATA --rows N --template NAME`: the bytes of a template on the screen, what is trained in colour."""

import re
from pathlib import Path

import pytest
from cli_runs import run_apart, run_here
from fakes import talk, write_lines

from baihua.chat.template import TEMPLATES
from baihua.core import kinds

Capture = pytest.CaptureFixture[str]
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
)


# Marks that a console may take as its own, and a line wider than a screen.
WIDE = "译[b]:smile:" + "料" * 60


@pytest.fixture
def data(tmp_path: Path, capsys: Capture) -> str:
    """Two conversations at rest, one of them with two turns."""
    file = write_lines(tmp_path / "talks.jsonl", [talk("一", "甲", "二", "乙"), talk(WIDE, "答")])
    assert run_here(capsys, "do", "import_data", f"files=[{file}]", "--out", str(tmp_path / "data")).status == 0
    return str(tmp_path / "data")


@pytest.mark.parametrize("name", kinds.names(TEMPLATES))
def test_every_template_shows_rows_without_a_model(name: str, data: str, capsys: Capture) -> None:
    shown = run_here(capsys, "show", data, "--rows", "1", "--template", name)
    end = kinds.find(TEMPLATES, name).CONTROLS[-1]
    assert shown.status == 0, shown.err
    assert re.findall(rf"([甲乙]) ?{re.escape(end)}", shown.out) == ["甲", "乙"]


def test_rows_are_shown_byte_exact(data: str, capsys: Capture) -> None:
    lines = run_here(capsys, "show", data, "--rows", "3", "--template", "vicuna").out.splitlines()
    assert lines[1::2] == [
        VICUNA + "USER: 一 ASSISTANT: 甲</s>USER: 二 ASSISTANT: 乙</s>",
        VICUNA + f"USER: {WIDE} ASSISTANT: 答</s>",
    ]


def test_what_is_trained_is_coloured(data: str, tmp_path: Path) -> None:
    words = ("show", data, "--template", "llama3", "--rows", "1")
    shown = run_apart(*words, cwd=tmp_path, FORCE_COLOR="1", TERM="xterm-256color").out
    assert "\x1b[32m甲\x1b[0m\x1b[1;30;42m<|eot_id|>\x1b[0m" in shown
    assert "\x1b[2m一\x1b[0m\x1b[35m<|eot_id|>\x1b[0m" in shown


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_an_unknown_template_is_named_with_the_known_ones(flags: tuple[str, ...], data: str, capsys: Capture) -> None:
    wrong = run_here(capsys, "show", data, "--rows", "1", "--template", "vicunna", *flags)
    assert wrong.status == 2
    assert wrong.errors()[0].startswith("error: unknown template 'vicunna'; did you mean 'vicuna'? (known: alpaca, ")
