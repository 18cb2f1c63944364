"""Our own code has the shape we like."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "tools" / "shape.py"
DEEP = "def f(a, b):\n" + "".join(f"{'    ' * n}for _ in a:\n" for n in range(1, 6)) + "    " * 6 + "return eval(b)\n"


def check(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), "--check", *words], capture_output=True, text=True, check=False)


def test_the_package_keeps_every_limit() -> None:
    found = check()
    assert found.returncode == 0, found.stdout


def test_a_file_that_passes_limits_fails_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "deep.py").write_text(DEEP, encoding="utf-8")
    found = check(str(tmp_path))
    too_much = [line[:30].strip() for line in found.stdout.splitlines() if line.endswith("too much")]
    assert found.returncode == 1
    assert {"nesting, deepest", "functions not fully typed", "exec, eval"} <= set(too_much)
    assert "deep.py:1 f: 5 deep" in found.stdout
