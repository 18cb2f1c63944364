"""Counts as horizontal bars: an SVG element in the colours and fonts of its page."""

import html
from collections.abc import Sequence

from rich.cells import cell_len

from baihua.core.tables import shorten

WIDTH, ROW_HEIGHT, FONT_SIZE, GAP = 720, 22, 13, 8
# One terminal column, half a Chinese character or a digit, is hardly wider in any font.
COLUMN_WIDTH = FONT_SIZE * 0.65
MAX_NUM_COLUMNS = 36
COUNT_WIDTH = 120


def draw_bars(bars: Sequence[tuple[str, int]]) -> str:
    """An `<svg>` element of labelled counts, each with its share of all."""
    labels = [shorten(label, MAX_NUM_COLUMNS) for label, _ in bars]
    left = max(map(cell_len, labels), default=0) * COLUMN_WIDTH + GAP
    total, largest = sum(count for _, count in bars), max((count for _, count in bars), default=0)
    scale = (WIDTH - left - COUNT_WIDTH) / max(largest, 1)
    rows: list[str] = []
    for number, (label, (_, count)) in enumerate(zip(labels, bars, strict=True)):
        top, length, share = number * ROW_HEIGHT, count * scale, count / max(total, 1)
        baseline = top + ROW_HEIGHT - 7
        rows.append(
            f'<text x="{left - GAP:.0f}" y="{baseline}" text-anchor="end">{html.escape(label)}</text>'
            f'<rect x="{left:.0f}" y="{top + 3}" width="{length:.1f}" height="{ROW_HEIGHT - 6}" fill="var(--accent)"/>'
            f'<text x="{left + length + GAP:.0f}" y="{baseline}">{count:,} ({share:.1%})</text>'
        )
    style = f'font-size="{FONT_SIZE}" fill="currentColor" role="img"'
    return "\n".join([f'<svg viewBox="0 0 {WIDTH} {max(len(bars), 1) * ROW_HEIGHT}" {style}>', *rows, "</svg>"])
