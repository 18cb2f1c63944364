"""The measuring script: Baihua's code keeps the limits, and code that does not is named."""

import sys
from pathlib import Path

import pytest

import shape

DEEP = "def f(a, b):\n" + "".join(f"{'    ' * n}for _ in a:\n" for n in range(1, 6)) + "    " * 6 + "return eval(b)\n"
ODD = '''"""A module.

Two lines.
"""

# A comment.
class Twice:
    """A class."""

    x = 1
    """A field."""


def f():
    from baihua.core import env

    return vars(env), """
        text
    """


class Twice: ...
'''


def check(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["shape.py", "--check", *words])
    return shape.main(), capsys.readouterr().out


def test_the_package_keeps_every_limit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    status, out = check(capsys, monkeypatch)
    assert status == 0, out


def test_a_file_that_exceeds_limits_fails_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep.py").write_text(DEEP, encoding="utf-8")
    status, out = check(capsys, monkeypatch, str(tmp_path))
    assert status == 1
    too_much = {line[:36].strip() for line in out.splitlines() if line.endswith("too much")}
    assert {"nesting, deepest", "functions not fully typed", "exec, eval"} <= too_much
    assert "deep.py:1 f: 5 deep" in out


def test_code_lines_are_counted_without_blank_lines_comments_and_docstrings(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(ODD, encoding="utf-8")
    assert shape.parse(tmp_path / "odd.py").num_code_lines == 8


def test_doubled_classes_lazy_imports_and_vars_are_counted(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(ODD, encoding="utf-8")
    modules = [shape.parse(tmp_path / "odd.py")]
    figures = {name: value for name, value, _ in shape.measure(modules)}
    assert figures["first-party imports inside functions"] == 1
    assert figures["calls of vars"] == 1
    assert shape.doubled_classes(modules) == ["Twice"]


def test_folders_with_many_files_are_named_but_registries_are_not(tmp_path: Path) -> None:
    for folder in ("rooms", "stages"):
        (tmp_path / folder).mkdir()
        for number in range(9):
            (tmp_path / folder / f"f{number}.py").write_text("x = 1\n", encoding="utf-8")
    modules = [shape.parse(file) for file in sorted(tmp_path.rglob("*.py"))]
    assert shape.crowded_folders(modules) == {str(tmp_path / "rooms"): 9}
