"""Check the starter set: schema, duplicates, length spread, share of Han, counts per category.

Usage: python tools/check_starter.py
"""

import statistics
import sys
from collections import Counter, defaultdict
from pathlib import Path

from baihua.chat.types import Message
from baihua.chat.zh import han_share
from baihua.core.files import read_jsonl
from baihua.data.drafts import Bad, check_turns
from baihua.data.formats import messages as messages_format
from baihua.data.read.files import STARTER_FOLDER

SMALLEST = {
    "open_qa": 100,
    "closed_qa": 50,
    "brainstorming": 40,
    "rewriting": 50,
    "generation": 60,
    "classification": 50,
    "extraction": 50,
    "summarization": 40,
    "reasoning": 80,
    "code": 40,
    "dialogue": 120,
    "identity": 40,
    "unknown": 25,
    "refusal": 25,
}
# Chosen by looking: pairs above this share of common character 4-grams read like the same row.
LARGEST_SIMILARITY = 0.6
OTHER_PRODUCTS = ("我是ChatGPT", "我是文心", "我是通义", "我是豆包", "我是Claude", "我是SmolLM")


def read_category(file: Path) -> list[tuple[int, str, list[Message]]]:
    """Line, group and messages of each row; exits with a message for a row that breaks the schema."""
    rows: list[tuple[int, str, list[Message]]] = []
    for line, record in read_jsonl(file):
        try:
            [draft] = messages_format.convert(record, messages_format.Config())
            check_turns(draft.messages)
        except Bad as bad:
            sys.exit(f"{file.name}:{line}: {bad.reason} ({bad.detail})")
        group = record.get("group")
        if not isinstance(group, str) or not group.startswith(file.stem + "-"):
            sys.exit(f"{file.name}:{line}: group {group!r} does not begin with {file.stem}-")
        if set(record) != {"group", "messages"}:
            sys.exit(f"{file.name}:{line}: unexpected keys {sorted(record)}")
        rows.append((line, group, list(draft.messages)))
    return rows


def grams(text: str) -> set[str]:
    """Character 4-grams of a text without spaces and punctuation."""
    letters = "".join(char for char in text if char.isalnum())
    return {letters[i : i + 4] for i in range(max(len(letters) - 3, 1))}


def near_duplicates(texts: dict[str, str]) -> list[str]:
    """Pairs of rows whose 4-grams overlap too much (Jaccard)."""
    sets = {name: grams(text) for name, text in texts.items()}
    holders: dict[str, list[str]] = defaultdict(list)
    found: list[str] = []
    for name, own in sets.items():
        shared = Counter(other for gram in own for other in holders[gram])
        for other, number in shared.items():
            share = number / (len(own) + len(sets[other]) - number)
            if share > LARGEST_SIMILARITY:
                found.append(f"{other} and {name}: {share:.2f}")
        for gram in own:
            holders[gram].append(name)
    return found


def main() -> int:
    """Print the figures; 1 if something is wrong."""
    faults: list[str] = []
    texts: dict[str, str] = {}
    lengths: list[int] = []
    for category, smallest in SMALLEST.items():
        rows = read_category(STARTER_FOLDER / f"{category}.jsonl")
        answers = [m.content for _, _, messages in rows for m in messages if m.role == "assistant"]
        lengths += map(len, answers)
        texts |= {
            f"{category}:{line}": "".join(m.content + (m.input or "") for m in messages) for line, _, messages in rows
        }
        share = statistics.mean(han_share(answer) for answer in answers if any(c.isalpha() for c in answer))
        groups = len({group for _, group, _ in rows})
        median, longest = statistics.median(map(len, answers)), max(map(len, answers))
        print(
            f"{category:<16}{len(rows):>5} rows {groups:>4} groups   answers: median {median:>4g} "
            f"longest {longest:>4}   Han {share:.2f}"
        )
        faults += [f"{category}: {len(rows)} rows, expected at least {smallest}"] if len(rows) < smallest else []
        faults += [f"{category}: {a[:40]}" for a in answers if any(name in a for name in OTHER_PRODUCTS)]
        if category == "identity":
            faults += [
                f"identity:{line}: no 白话"
                for line, _, m in rows
                if not all("白话" in x.content for x in m if x.role == "assistant")
            ]
    faults += [f"the same text twice: {text[:30]}" for text, n in Counter(texts.values()).items() if n > 1]
    faults += near_duplicates(texts)
    spread = statistics.quantiles(lengths, n=20)
    print(
        f"{len(texts):,} rows, {sum(map(len, texts.values())):,} characters; answer characters p5 {spread[0]:g}, "
        f"median {statistics.median(lengths):g}, p95 {spread[-1]:g}"
    )
    print("\n".join(faults) or "no fault found")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
