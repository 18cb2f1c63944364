"""The same cleaning as people write it today: `datasets.map` with two processes, datasketch for near-duplicates.

Usage: python bench/data/plain.py DATA.jsonl OUT   (needs: pip install datasets datasketch)

It uses our own filters where they are Python functions, and Python's `re` where ours are native expressions, so that
the difference is the engine. Prints one JSON object.
"""

# These two packages are no part of ours, and a data set's rows have no types.
# pyright: reportMissingImports=false, reportCallIssue=false, reportArgumentType=false

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import datasets
from datasketch import MinHash, MinHashLSH

from baihua.chat.zh import han_share
from baihua.data.clean.contract import Drop
from baihua.data.clean.texts import grams, normalise
from baihua.data.filters import literal_newline, refusal, repetition, script, width

NUM_PROCESSES = 2
NUM_HASHES = 128
THRESHOLD = 0.55
SCHEME = "affine32"
OPENING = re.compile(refusal.OPENING)
CHANGES = [(module, module.Config()) for module in (script, width, literal_newline)]
REPETITION = repetition.Config()


def keep(row: dict[str, Any]) -> bool:
    """The filters that drop by one row's text."""
    answer = row["output"]
    text = "\n".join(filter(None, (row["instruction"], row["input"], answer)))
    return (
        any(char.isalnum() for char in answer)
        and 1 <= len(text) <= 8000
        and han_share(text) >= 0.3
        and not isinstance(repetition.check_text(answer, REPETITION), Drop)
        and not OPENING.search(answer.lstrip()[: refusal.NUM_OPENING_CHARS])
    )


def change(row: dict[str, Any]) -> dict[str, Any]:
    """The filters that change texts."""
    for name in ("instruction", "input", "output"):
        for module, config in CHANGES:
            row[name] = module.check_text(row[name], config)
    return row


def sketch(row: dict[str, Any]) -> dict[str, Any]:
    """The key of exact copies and the MinHash of near ones."""
    normal = normalise("\n".join(filter(None, (row["instruction"], row["input"], row["output"]))))
    minhash = MinHash(NUM_HASHES, scheme=SCHEME)
    minhash.update_batch([gram.encode() for gram in grams(normal, 5)])
    return {"normal": normal, "hashes": minhash.hashvalues}


def main() -> int:
    """Clean a file."""
    datasets.disable_progress_bars()
    out = Path(sys.argv[2])
    shutil.rmtree(out, ignore_errors=True)
    data = datasets.load_dataset("json", data_files=sys.argv[1], split="train", cache_dir=str(out / "cache"))
    num_rows = len(data)
    data = data.filter(keep, num_proc=NUM_PROCESSES).map(change, num_proc=NUM_PROCESSES)
    data = data.map(sketch, num_proc=NUM_PROCESSES)
    lsh, seen, kept = MinHashLSH(threshold=THRESHOLD, num_perm=NUM_HASHES), set(), []
    for number, row in enumerate(data):
        minhash = MinHash(NUM_HASHES, hashvalues=row["hashes"], scheme=SCHEME)
        if row["normal"] not in seen and not lsh.query(minhash):
            seen.add(row["normal"])
            lsh.insert(number, minhash)
            kept.append(number)
    data.select(kept).remove_columns(["normal", "hashes"]).to_parquet(out / "rows.parquet")
    print(json.dumps({"num_rows_in": num_rows, "num_rows_kept": len(kept)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
