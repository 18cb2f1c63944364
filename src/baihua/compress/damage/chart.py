"""Loss against size as an SVG file: one point per level and language."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

# Looks black. Matplotlib has no "current colour": a page that includes a chart replaces this one by its own.
INK = "#010203"
LANGUAGES = {"zh": ("Chinese", "#2f7ed8", "o"), "en": ("English", "#d9662b", "s")}
SETTINGS: "dict[RcKeyType, Any]" = {
    "svg.fonttype": "none",
    "svg.hashsalt": "baihua",
    "text.parse_math": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(levels: Sequence[Mapping[str, Any]]) -> str | None:
    """The SVG of mean KL, with two standard errors each way, against file size; None where no level was compared."""
    # Takes a second, and most reports have no chart.
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        axes = figure.add_subplot()
        named: set[str] = set()
        for language, (name, color, marker) in LANGUAGES.items():
            # A level with exactly the predictions of the reference has no place on a logarithmic axis.
            rows = sorted(levels, key=lambda row: row["file_bytes"])
            rows = [row for row in rows if row.get(f"mean_kl_{language}", 0) > 0]
            if not rows:
                continue
            xs, ys = [row["file_bytes"] / 1e6 for row in rows], [row[f"mean_kl_{language}"] for row in rows]
            errors = [2 * row.get(f"mean_kl_{language}_se", 0) for row in rows]
            axes.errorbar(xs, ys, errors, label=name, color=color, marker=marker, linestyle=":", capsize=3)
            for row, x, y in zip(rows, xs, ys, strict=True):
                # The points of both languages are above each other, so each level is named once.
                name = "" if row["level"] in named else row["level"]
                axes.annotate(name, (x, y), xytext=(7, 5), textcoords="offset points", fontsize=8)
                named.add(row["level"])
        if not axes.has_data():
            return None
        axes.margins(x=0.1)
        axes.set(yscale="log", xlabel="file size, MB", ylabel="mean KL to the reference, nats per token")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        axes.grid(visible=True, color=INK, alpha=0.12)
        axes.legend(frameon=False)
        page = io.StringIO()
        figure.savefig(page, format="svg", transparent=True, metadata={"Date": None})
    return page.getvalue()
