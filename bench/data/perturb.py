"""Test sets made of real rows: edited copies, near-duplicate versions, and versions in cipher that are not near.

Usage: python bench/data/perturb.py OUT.jsonl [--rows 1000000] [--kind versions|ciphers] [--seed 0]

Rows are Alpaca's `{"instruction", "input", "output"}`. The same seed makes the same rows.
"""

import argparse
import gzip
import itertools
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from baihua.chat.zh import is_han

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
BILINGUAL = SHARED / "alpaca-zh-en" / "bilingual_50k.jsonl.gz"

Row = dict[str, str]
FIELDS = ("instruction", "input", "output")
CLAUSE = re.compile(r"[^，。！？；：,.!?;:\n]+")
# Beyond the most frequent 3,000 Han characters are 0.1 % of the text; five in a row that stay are rare.
NUM_CIPHERED_HAN = 3_000
NUM_VERSIONS = 20
FULL_WIDTH = str.maketrans({chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F)})
HALF_WIDTH = str.maketrans("，。！？；：（）", ",.!?;:()")


@dataclass(frozen=True, slots=True)
class Plant:
    """An edited copy of the text number `source`, and which kind of edit made it."""

    source: int
    text: str
    kind: str


def read_rows(file: Path = BILINGUAL) -> list[Row]:
    """The Chinese rows of the bilingual set, as they are."""
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        records = [json.loads(line) for line in stream]
    return [{name: record[f"zh_{name}"] or "" for name in FIELDS} for record in records]


def row_text(row: Row) -> str:
    """A row as one text, its fields joined by newlines."""
    return "\n".join(row[name] for name in FIELDS)


def draw_han(texts: Iterable[str], count: int) -> list[str]:
    """The most frequent Han characters, most frequent first."""
    counts = Counter(itertools.chain.from_iterable(texts))
    found = [(-number, char) for char, number in counts.items() if is_han(char)]
    return [char for _, char in sorted(found)[:count]]


def edit_run(text: str, share: float, filler: str, rng: random.Random) -> str:
    """One run of characters replaced by as many of a filler text."""
    length = max(1, round(share * len(text)))
    start = int(rng.random() * (len(text) - length + 1))
    other = int(rng.random() * (len(filler) - length))
    return text[:start] + filler[other : other + length] + text[start + length :]


def edit_scattered(text: str, share: float, filler: str, rng: random.Random) -> str:
    """Single characters replaced here and there."""
    chars = list(text)
    for place in rng.sample(range(len(chars)), max(1, round(share * len(chars)))):
        chars[place] = rng.choice(filler)
    return "".join(chars)


def exchange_clauses(text: str, rng: random.Random) -> str:
    """Two clauses change places; a text of one clause stays as it is."""
    clauses = list(CLAUSE.finditer(text))
    if len(clauses) < 2:
        return text
    one, two = sorted(rng.sample(clauses, 2), key=lambda clause: clause.start())
    return text[: one.start()] + two[0] + text[one.end() : two.start()] + one[0] + text[two.end() :]


def change_width(text: str, rng: random.Random) -> str:
    """Half-width or full-width throughout, with other punctuation at the end."""
    table = FULL_WIDTH if rng.random() < 0.5 else HALF_WIDTH
    return text.translate(table) + rng.choice(["。", "!", "……", "～", " "])


def plants(texts: list[str], count: int, rng: random.Random) -> list[Plant]:
    """Edited copies of texts of at least 40 characters, as many of each kind; no text is used twice."""
    filler = make_filler(texts, rng)
    edits: dict[str, Callable[[str], str]] = {
        "run of 5-10 %": lambda text: edit_run(text, rng.uniform(0.05, 0.10), filler, rng),
        "scattered 2-4 %": lambda text: edit_scattered(text, rng.uniform(0.02, 0.04), filler, rng),
        "clauses exchanged": lambda text: exchange_clauses(text, rng),
        "punctuation, width": lambda text: change_width(text, rng),
    }
    long_enough = [number for number, text in enumerate(texts) if len(text) >= 40]
    chosen = rng.sample(long_enough, count)
    kinds = itertools.cycle(edits.items())
    return [Plant(number, edit(texts[number]), kind) for number, (kind, edit) in zip(chosen, kinds, strict=False)]


def make_filler(texts: list[str], rng: random.Random) -> str:
    """A hundred thousand Han characters at random, as often as texts have them, to put where something is replaced."""
    counts = Counter(itertools.chain.from_iterable(rng.sample(texts, min(len(texts), 5_000))))
    chars = sorted(char for char in counts if is_han(char))
    return "".join(rng.choices(chars, [counts[char] for char in chars], k=100_000))


def versions(rows: list[Row], count: int, *, seed: int = 0) -> Iterator[Row]:
    """Every row in `count` versions that are near each other; versions of a row lie apart."""
    rng = random.Random(seed)
    filler = make_filler([row_text(row) for row in rows], rng)
    for _ in range(count):
        for row in rows:
            yield edit_row(row, filler, rng)


def edit_row(row: Row, filler: str, rng: random.Random) -> Row:
    """A row with a run replaced: 5 to 8 % of it anywhere in the answer, or up to 15 % at its end."""
    num_chars, answer = sum(map(len, row.values())), row["output"]
    # A run inside a short text breaks so many n-grams that two versions would not be near each other any more.
    if num_chars >= 150 and len(answer) >= num_chars / 2 and rng.random() < 0.5:
        share = (0.05 + 0.03 * rng.random()) * num_chars / len(answer)
        return row | {"output": edit_run(answer, share, filler, rng)}
    length = min(len(answer), round((0.05 + 0.1 * rng.random()) * num_chars))
    start = int(rng.random() * (len(filler) - length))
    return row | {"output": answer[: len(answer) - length] + filler[start : start + length]}


def ciphers(rows: list[Row], count: int, *, seed: int = 0) -> Iterator[Row]:
    """Every row in `count` versions that are not near each other, and after every tenth row a near copy of it.

    A version maps Han characters, Latin letters and digits each among themselves. Lengths, punctuation and what is
    duplicated within a version stay.
    """
    rng = random.Random(seed)
    texts = [row_text(row) for row in rows]
    filler = make_filler(texts, rng)
    han = draw_han(texts, NUM_CIPHERED_HAN)
    for _ in range(count):
        table = make_cipher(han, rng)
        for number, row in enumerate(rows):
            ciphered = {name: value.translate(table) for name, value in row.items()}
            yield ciphered
            if number % 10 == 9:
                yield edit_row(ciphered, filler, rng)


def make_cipher(han: list[str], rng: random.Random) -> dict[int, str]:
    """A translation table that permutes some Han characters, the Latin letters and the digits."""
    table: dict[int, str] = {}
    for chars in (han, list("abcdefghijklmnopqrstuvwxyz"), list("0123456789")):
        table |= {ord(char): other for char, other in zip(chars, rng.sample(chars, len(chars)), strict=True)}
    return table | {ord(chr(code).upper()): table[code].upper() for code in range(ord("a"), ord("z") + 1)}


def make(kind: str, num_rows: int, *, seed: int = 0) -> Iterator[Row]:
    """So many rows of a kind, made of the bilingual set's rows that have an answer."""
    # 20 versions of each: a tenth of the rows has a tenth of the sources.
    rows = [row for row in read_rows() if row["output"].strip()][: -(-num_rows // NUM_VERSIONS)]
    count = num_rows // len(rows) + 1
    made = versions(rows, count, seed=seed) if kind == "versions" else ciphers(rows, count, seed=seed)
    return itertools.islice(made, num_rows)


def main() -> int:
    """Write a file of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=["versions", "ciphers"], default="versions")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with options.out.open("w", encoding="utf-8") as stream:
        for row in make(options.kind, options.rows, seed=options.seed):
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
