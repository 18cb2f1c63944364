"""One sentence that says which level to take, and what the next smaller one costs."""

from collections.abc import Mapping, Sequence
from typing import Any

from baihua.core.tables import format_bytes

# Two per cent more bits lie between what is called balanced and what is called a high loss: by llama.cpp's own list for
# a Llama of 7 billion weights (perplexity 5.91 at f16; +0.0535 at Q4_K_M, +0.2437 at Q3_K_M, +0.8698 at Q2_K,
# examples/quantize, 2023) the loss in bits is 0.5 %, 2.3 % and 7.7 %.
SMALL_LOSS = 0.02
NAMES = {"zh": "Chinese", "en": "English"}
Row = Mapping[str, Any]


def advise(rows: Sequence[Row]) -> str | None:
    """A sentence about the smallest file whose loss is small; None without a level that was compared.

    The loss is the increase of bits per character over the reference (the first row), in Chinese where it was measured.
    """
    reference, *others = rows
    language = next((name for name in NAMES if any(_key(name) in row for row in others)), None)
    if language is None:
        return None
    levels = sorted((row for row in others if _key(language) in row), key=lambda row: row["file_bytes"])
    small = [row for row in levels if _loss(row, language) <= SMALL_LOSS]
    if not small:
        best = min(levels, key=lambda row: _loss(row, language))
        return (
            f"No level is close to {reference['level']} ({format_bytes(reference['file_bytes'])}): the best one, "
            f"{_name(best)}, costs {_cost(best, language, reference)}."
        )
    chosen = small[0]
    smaller = [row for row in levels if row["file_bytes"] < chosen["file_bytes"]]
    below = (
        f"below it {_name(smaller[-1])} costs {_cost(smaller[-1], language)}" if smaller else "nothing smaller is here"
    )
    return f"Take {_name(chosen)}, which costs {_cost(chosen, language, reference)}; {below}."


def _key(language: str) -> str:
    return f"bits_per_char_ratio_{language}"


def _loss(row: Row, language: str) -> float:
    return row[_key(language)] - 1


def _name(row: Row) -> str:
    return f"{row['level']} ({format_bytes(row['file_bytes'])})"


def _cost(row: Row, language: str, reference: Row | None = None) -> str:
    loss, error = _loss(row, language), row.get(f"{_key(language)}_se")
    spread = "" if error is None else f" (± {error:.1%})"
    than = f" than {reference['level']}" if reference else ""
    more = f"{abs(loss):.1%}{spread} {'fewer' if loss < 0 else 'more'} bits per {NAMES[language]} character{than}"
    return f"{more} and another most likely token at {1 - row[f'same_top_share_{language}']:.1%} of positions"
