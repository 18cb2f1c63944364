"""Does `near_duplicate` find planted copies, and only rows that are alike?

Usage: python bench/data/near_duplicates.py WORK [--plants 2000] [--seed 0]

Edited copies are planted into the Chinese rows of the bilingual set, and the stages import_data and clean run over
them. J is the exact Jaccard similarity of the sets of character 5-grams after normalising, computed here with Python's
sets. A plant is found if it or its source is dropped. Wanted: at least 95 % of the plants with J >= 0.6 found; at most
0.5 % of the dropped rows with J < 0.5 to the row that is kept in their place.
"""

import argparse
import json
import random
import shutil
import sys
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
from perturb import Plant, plants, read_rows, row_text
from watch import do

from baihua.data.clean.texts import grams, normalise

WANTED_RECALL = 0.95
MOST_UNLIKE = 0.005


def similarity(one: str, other: str) -> float:
    """The exact Jaccard similarity of two texts' character 5-grams after normalising."""
    a, b = grams(normalise(one), 5), grams(normalise(other), 5)
    return len(a & b) / len(a | b) if a & b else 0.0


def tell_bin(value: float) -> str:
    """The bin of a similarity: below 0.4, then tenths, and 1 alone."""
    if value == 1:
        return "J = 1"
    return "J < 0.4" if value < 0.4 else f"J {int(value * 10) / 10:.1f} to {int(value * 10 + 1) / 10:.1f}"


def print_shares(title: str, names: list[str], is_found: list[bool]) -> None:
    """How many of each name were found."""
    found: dict[str, list[bool]] = defaultdict(list)
    for name, value in zip(names, is_found, strict=True):
        found[name].append(value)
    print(f"\n{title:<24}{'plants':>8}{'found':>8}{'recall':>9}")
    for name in sorted(found):
        values = found[name]
        print(f"{name:<24}{len(values):>8,}{sum(values):>8,}{sum(values) / len(values):>9.1%}")


def measure_recall(planted: list[Plant], texts: list[str], dropped: set[int]) -> float:
    """Print recall by similarity and by kind; returns that of plants with J >= 0.6."""
    first = len(texts) - len(planted)
    is_found = [first + at in dropped or plant.source in dropped for at, plant in enumerate(planted)]
    near = [similarity(plant.text, texts[plant.source]) for plant in planted]
    print_shares("similarity", [tell_bin(value) for value in near], is_found)
    alike = [at for at, value in enumerate(near) if value >= 0.6]
    print_shares("kind (J >= 0.6)", [planted[at].kind for at in alike], [is_found[at] for at in alike])
    return sum(is_found[at] for at in alike) / len(alike)


def find_copies(texts: list[str], work: Path) -> list[tuple[int, int]]:
    """Pairs of a dropped text and the one that is kept in its place, by their numbers."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    (work / "texts.jsonl").write_text("".join(lines), encoding="utf-8")
    do("import_data", f"files=[{work / 'texts.jsonl'}]", "format={kind: text}", out=work / "in")
    needed = do("clean", "filters=[{kind: near_duplicate}]", out=work / "out", data=work / "in")
    print(f"{len(texts):,} rows cleaned in {needed.seconds:.1f} s, {needed.peak_bytes / 1e9:.2f} GB")
    table = pq.read_table(work / "in" / "documents.parquet", columns=["id", "line"])
    number_of = {row_id: line - 1 for row_id, line in zip(*table.to_pydict().values(), strict=True)}
    dropped = pq.read_table(work / "out" / "dropped.parquet", columns=["id", "detail"]).to_pylist()
    return [(number_of[row["id"]], number_of[row["detail"].split()[1].rstrip(",")]) for row in dropped]


def main() -> int:
    """Print the figures; 1 if they are not as wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--plants", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    originals = [row_text(row) for row in read_rows()]
    planted = plants(originals, options.plants, random.Random(options.seed))
    texts = originals + [plant.text for plant in planted]
    pairs = find_copies(texts, options.work)
    dropped = {number for number, _ in pairs}
    recall = measure_recall(planted, texts, dropped)
    near = [similarity(texts[one], texts[kept]) for one, kept in pairs]
    unlike = sum(value < 0.5 for value in near) / len(near)
    print(f"\nplants with J >= 0.6 found: {recall:.2%} (wanted: at least {WANTED_RECALL:.0%})")
    print(f"dropped rows with J < 0.5: {unlike:.2%} of {len(near):,} (wanted: at most {MOST_UNLIKE:.1%}); ", end="")
    print(f"lowest {min(near):.3f}; kept rows that are dropped: {len(dropped & {kept for _, kept in pairs})}")
    return int(recall < WANTED_RECALL or unlike > MOST_UNLIKE)


if __name__ == "__main__":
    sys.exit(main())
