"""Damage for people: a sentence of advice, tables as plain values and as Markdown, and a chart of loss against size."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from baihua.core.tables import Column, Table, figures_table, format_bytes, render_markdown

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

Row = Mapping[str, Any]
Columns = Sequence[Column]
# Between what is usually called balanced and what is called a high loss: by llama.cpp's own list for a Llama of 7
# billion weights (perplexity 5.91 at f16; +0.0535 at Q4_K_M, +0.2437 at Q3_K_M, +0.8698 at Q2_K, examples/quantize,
# 2023) the bits grow by 0.5 %, 2.3 % and 7.7 %.
SMALL_LOSS = 0.02
LANGUAGES = {"zh": ("Chinese", "#2f7ed8", "o"), "en": ("English", "#d9662b", "s")}
"""Each language's name, and the colour and marker of its points."""
SIZES: Columns = (("level", "level", ""), ("MB", "file_bytes", "MB"), ("bits/weight", "bits_per_weight", ".2f"))
SPEEDS: Columns = (
    ("prompt tokens/s", "prompt_tokens_per_second", ".1f"),
    ("tokens/s", "tokens_per_second", ".1f"),
    ("characters/s", "chars_per_second", ".1f"),
    ("peak MB", "peak_memory_bytes", "MB"),
)
REPLIES: Columns = (
    ("replies", "num_replies", "d"),
    ("changed", "changed_reply_share", ".0%"),
    ("edit distance", "mean_edit_distance", ".1%"),
)
CATEGORY: Columns = (("category", "category", ""), ("level", "level", ""))

# Looks black. Matplotlib has no "current colour": a page that includes a chart replaces this one by its own.
INK = "#010203"
SETTINGS: "dict[RcKeyType, Any]" = {
    "svg.fonttype": "none",
    "svg.hashsalt": "baihua",
    "text.parse_math": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def advise(rows: Sequence[Row]) -> str | None:
    """A sentence that names the smallest file with a small loss; None where no level was compared.

    The loss is the increase of bits per character over the reference (the first row), in Chinese if it was measured.
    """
    reference, *others = rows
    language = next((name for name in LANGUAGES if any(f"bits_per_char_ratio_{name}" in row for row in others)), None)
    if language is None:
        return None
    ratio = f"bits_per_char_ratio_{language}"

    def name(row: Row) -> str:
        return f"{row['level']} ({format_bytes(row['file_bytes'])})"

    def cost(row: Row, than: str = "") -> str:
        loss, error = row[ratio] - 1, row.get(f"{ratio}_se")
        more = f"{abs(loss):.1%}{'' if error is None else f' (± {error:.1%})'} {'fewer' if loss < 0 else 'more'} bits"
        changed = f"a different most likely token at {1 - row[f'same_top_share_{language}']:.1%} of positions"
        return f"{more} per {LANGUAGES[language][0]} character{than} and {changed}"

    levels = sorted((row for row in others if ratio in row), key=lambda row: row["file_bytes"])
    small = [row for row in levels if row[ratio] - 1 <= SMALL_LOSS]
    than = f" than {reference['level']}"
    if not small:
        best = min(levels, key=lambda row: row[ratio])
        return f"No level is close to {name(reference)}: the best one, {name(best)}, costs {cost(best, than)}."
    smaller = [row for row in levels if row["file_bytes"] < small[0]["file_bytes"]]
    below = f"the next smaller one, {name(smaller[-1])}, costs {cost(smaller[-1])}" if smaller else "no file is smaller"
    return f"Take {name(small[0])}, which costs {cost(small[0], than)}; {below}."


def tables(damage: Row) -> list[tuple[str, Table]]:
    """Title and cells of each table; figures have their standard errors, missing ones are a dash."""
    levels, categories = damage["levels"], damage.get("categories", [])
    # First the columns that every row has, then those of the measurement, without which the table is left out.
    wanted: list[tuple[str, Columns, Columns, Sequence[Row]]] = [
        ("Chinese text", SIZES, _losses("_zh"), levels),
        ("English text", SIZES, _losses("_en"), levels),
        ("Greedy replies", SIZES[:1], REPLIES, levels),
        ("Speed and memory on the machine that measured", SIZES, SPEEDS, levels),
        ("By category of the questions", CATEGORY, (*_losses(""), *REPLIES), categories),
    ]
    return [
        (title, figures_table([*always, *measured], rows))
        for title, always, measured, rows in wanted
        if any(name in row for row in rows for _, name, _ in measured)
    ]


def markdown(damage: Row) -> str:
    """The advice and every table."""
    parts = [damage["advice"]] if damage.get("advice") else []
    parts += [f"**{title}**\n\n{render_markdown(table).rstrip()}" for title, table in tables(damage)]
    return "\n\n".join(parts) + "\n"


def draw(levels: Sequence[Row]) -> str | None:
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


def _losses(suffix: str) -> Columns:
    """The columns of one language, or of a category with an empty suffix."""
    return (
        ("texts", f"num_texts{suffix}", "d"),
        ("bits/character", f"bits_per_char{suffix}", ".3f"),
        ("ratio to reference", f"bits_per_char_ratio{suffix}", ".4f"),
        ("mean KL", f"mean_kl{suffix}", ".2g"),
        ("median KL", f"median_kl{suffix}", ".2g"),
        ("99 % KL", f"p99_kl{suffix}", ".2g"),
        ("largest KL", f"max_kl{suffix}", ".2g"),
        ("same top token", f"same_top_share{suffix}", ".1%"),
    )
