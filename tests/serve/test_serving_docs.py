"""The client code in docs/serving.md works."""

import re
import runpy
from pathlib import Path

import pytest
from live_server import served
from served_models import opened_file

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "serving.md"


def test_the_guides_client_streams_an_answer(
    tiny_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(shown) == 1
    with opened_file(tiny_gguf) as tiny, served({"tiny": tiny}) as url:
        (tmp_path / "shown.py").write_text(shown[0].replace("http://127.0.0.1:8080", url), encoding="utf-8")
        runpy.run_path(str(tmp_path / "shown.py"))
    assert capsys.readouterr().out
