"""The report in a real browser: it shows, in both colour schemes, and asks nothing of the network."""

import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from baihua.report.page import Page, Reply, Section, to_html
from baihua.report.plot import Line, draw_lines

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.extras,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium"),
]


def browse(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=900,1200", *options]
    return subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, check=True, timeout=120, cwd=page.parent
    )


@pytest.fixture
def page(tmp_path: Path) -> Path:
    svg = draw_lines([Line("损失", [1, 2, 3], [3.0, 2.0, 1.5])], x_label="step", y_label="loss")
    section = Section("样例", "", replies=[Reply("你好，你是谁？", [("base", "<script>document.title='x'</script>")])])
    curve = Section("曲线", curves=[("损失", svg)])
    file = tmp_path / "report.html"
    file.write_text(to_html(Page("白话报告", "一台机器", [section, curve])), encoding="utf-8")
    return file


def test_the_page_is_drawn_and_scripts_stay_text(page: Path) -> None:
    dom = browse(page, "--dump-dom").stdout
    assert "白话报告" in dom
    assert "<title>x</title>" not in dom
    browse(page, "--screenshot=light.png")
    with Image.open(page.parent / "light.png") as image:
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 24) or []) > 20
