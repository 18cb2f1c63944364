"""Curves as SVG elements of a page: their text stays text, and their ink follows the page's colours."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO

from baihua.compress.damage.summary import INK, SETTINGS

# The viewer's fonts draw the words, so a machine without a Chinese font still writes a readable report.
FONTS = "'PingFang SC', 'Noto Sans CJK SC', 'Source Han Sans SC', 'Microsoft YaHei', 'WenQuanYi Micro Hei', sans-serif"
COLORS = ("#2f7ed8", "#d9662b", "#3a9d5d", "#8e5bb5", "#b8860b", "#c0397b")


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: its name and its points."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]


def draw_lines(lines: Sequence[Line], *, x_label: str, y_label: str) -> str:
    """An `<svg>` element of the curves; a curve of one point is a dot."""
    # Takes a second, and a run that trained nothing has no curves.
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        # Only matplotlib's own fonts lack Chinese, and they are used for measuring alone.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        axes = figure.add_subplot()
        for number, line in enumerate(lines):
            color = COLORS[number % len(COLORS)]
            axes.plot(line.xs, line.ys, label=line.name, color=color, marker="o" if len(line.xs) < 20 else "")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(visible=True, color=INK, alpha=0.12)
        if len(lines) > 1:
            axes.legend(frameon=False)
        page = StringIO()
        figure.savefig(page, format="svg", transparent=True, metadata={"Date": None})
    return inline(page.getvalue())


def inline(svg: str) -> str:
    """An SVG file as an element of a page: without XML header, metadata, schema addresses and the ids of groups (a
    page may hold many curves), in the page's own ink.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", svg)
    svg = re.sub(r'\sid="[a-z0-9]+_\d+"', "", svg)
    svg = re.sub(r'font-family: [^;"]*', f"font-family: {FONTS}", svg)
    svg = re.sub(r'<svg([^>]*?) width="[^"]*"', r"<svg\1", svg, count=1)
    svg = re.sub(r'<svg([^>]*?) height="[^"]*"', r"<svg\1", svg, count=1)
    return svg.replace(INK, "currentColor").strip()
