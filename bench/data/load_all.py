"""Does every real set load, row for row as its source counts it?

Usage: python bench/data/load_all.py WORK
"""

import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from perturb import SHARED
from watch import do

from baihua.data.formats.questions import normalise_category
from baihua.data.rows import read_rows

ALL_ROWS = "format={kind: auto}"
COLUMNS = "columns=[question, answer, rationale]"
CLASSES = {
    "open qa": 285, "brainstorming": 179, "rewrite": 131, "generation": 98, "math": 75,
    "classification": 65, "closed qa": 52, "summarization": 40, "code": 38, "extract": 37,
}  # fmt: skip
# name, files, settings, rows in, rows kept, dropped
SETS: list[tuple[str, str, list[str], int, int, dict[str, int]]] = [
    ("cot", "alpaca-cot/*_train.json", [ALL_ROWS], 25_970, 25_970, {}),
    ("gsm8k", "alpaca-cot/gsm8k_train.tsv", ["format={kind: cot}", COLUMNS], 7_473, 7_473, {}),
    ("belle-eval", "belle/eval_set.json", [ALL_ROWS], 1_000, 1_000, {}),
    ("seeds-zh", "belle/zh_seed_tasks.json", [ALL_ROWS], 175, 175, {}),
    ("seeds-en", "stanford-alpaca/seed_tasks.jsonl", [ALL_ROWS], 175, 175, {}),
    ("dummy", "vicuna/dummy_conversation.json", [ALL_ROWS], 500, 500, {}),
    ("vicuna-80", "vicuna/question.jsonl", [ALL_ROWS], 80, 80, {}),
    ("vicuna-bench", "vicuna_bench/question.jsonl", [ALL_ROWS], 80, 80, {}),
    ("mt-bench", "mt_bench/question.jsonl", [ALL_ROWS], 80, 80, {}),
    ("zh", "alpaca-zh-en/*.gz", ["format={kind: bilingual, language: zh}"], 50_000, 49_951, {"empty_text": 49}),
    ("en", "alpaca-zh-en/*.gz", ["format={kind: bilingual, language: en}"], 50_000, 49_952, {"empty_text": 48}),
]


def main() -> int:
    """Load everything; 1 where a count differs."""
    work = Path(sys.argv[1])
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    is_fine = True
    for name, files, settings, *wanted in SETS:
        needed = do("import_data", f"files=[{SHARED / files}]", "bad_rows=drop", *settings, out=work / name)
        metrics = needed.output["stages"][0]["metrics"]
        found = [metrics["num_rows_in"], metrics["num_rows_kept"], metrics["num_rows_dropped"]]
        is_fine &= tell(f"{name:<14}{found[0]:>8,} in {found[1]:>8,} kept {metrics['formats']}", found, wanted)
    cleaned = do("clean", "filters=[{kind: literal_newline}]", out=work / "cot-clean", data=work / "cot")
    changed = cleaned.output["stages"][0]["metrics"]["num_rows_changed"]
    is_fine &= tell(f"cot: literal newlines repaired in {changed} rows", changed, {"literal_newline": 23_909})
    is_fine &= tell("belle-eval: classes", dict(classes(work / "belle-eval")), CLASSES)
    is_fine &= tell("belle-eval: unmatched with its prompts", unmatched(work / "belle-eval"), 0)
    return 0 if is_fine else 1


def tell(what: str, found: Any, wanted: Any) -> bool:
    """Print one check."""
    print(
        f"{'ok    ' if found == wanted else 'WRONG '} {what}" + ("" if found == wanted else f": {found}, not {wanted}")
    )
    return found == wanted


def classes(folder: Path) -> Counter[str]:
    """Questions of each class."""
    return Counter(row.meta["category"] for row in read_rows(folder))


def unmatched(folder: Path) -> int:
    """Questions whose class has no rating prompt."""
    lines = (SHARED / "belle" / "eval_prompt.json").read_text(encoding="utf-8").splitlines()
    prompts = {normalise_category(json.loads(line)["class"]) for line in lines if line.strip()}
    return sum(number for name, number in classes(folder).items() if name not in prompts)


if __name__ == "__main__":
    sys.exit(main())
