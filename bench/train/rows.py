"""Real rows for the training bench, how they become tokens, and what a model loses on answers that it has not seen.

Usage: python bench/train/rows.py SOURCE.jsonl.gz OUT [--rows 2000] [--heldout 100]

SOURCE has Alpaca rows in two languages (`zh_instruction`, `zh_input`, `zh_output`); OUT gets `train.jsonl` and
`heldout.jsonl` with plain Alpaca rows, the same ones each time. Needs torch only for `measure`.

T tokens of a row, N targets.
"""

# ruff: noqa: N806  (names of tensors end with their shape)

import argparse
import gzip
import itertools
import json
import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEED = 0
# SmolLM2 needs 1.6 tokens for a Chinese character: so all rows fit into 512 tokens and no tool cuts any.
MAX_CHARS = 260
IGNORED = -100
END = "<|im_end|>"

Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Tokens of a row, and the same with what is no target replaced by -100."""

    ids: list[int]
    labels: list[int]


def main() -> int:
    """Choose the rows and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--heldout", type=int, default=100)
    arguments = parser.parse_args()
    usable = list(_read_usable(arguments.source))
    chosen = random.Random(SEED).sample(usable, arguments.rows + arguments.heldout)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", chosen[: arguments.rows]), ("heldout", chosen[arguments.rows :])):
        file = arguments.out / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        print(f"{file}: {len(rows):,} rows, {sum(len(row['output']) for row in rows):,} characters of answers")
    return 0


def read_rows(file: Path, limit: int | None = None) -> list[Row]:
    """The first rows of a file."""
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in itertools.islice(lines, limit)]


def encode(row: Row, tokenizer: Any, *, max_length: int) -> Encoded:
    """A row in ChatML without a system message; targets are the answer and the token that ends it."""
    asked = "\n".join(filter(None, (row["instruction"], row["input"])))
    prompt = _ids(tokenizer, f"<|im_start|>user\n{asked}{END}\n<|im_start|>assistant\n")
    answer, rest = _ids(tokenizer, row["output"] + END), _ids(tokenizer, "\n")
    ids = prompt + answer + rest
    labels = [IGNORED] * len(prompt) + answer + [IGNORED] * len(rest)
    return Encoded(ids[:max_length], labels[:max_length])


def count_chars(tokenizer: Any) -> list[int]:
    """For each token of a byte-level tokenizer, how many characters start in it; control tokens have none.

    GPT-2's alphabet writes the bytes 80 to BF, which continue a character, as the code points 161 to 191
    (but 173) and 290 to 323.
    """
    num_chars = [0] * len(tokenizer)
    for token, number in tokenizer.get_vocab().items():
        num_chars[number] = sum(not (161 <= ord(char) <= 191 or 290 <= ord(char) <= 323) for char in token)
    for number in tokenizer.added_tokens_decoder:
        num_chars[number] = 0
    return num_chars


def measure(model: Any, rows: Sequence[Encoded], num_chars: Sequence[int]) -> dict[str, float | int]:
    """What the answers cost a model, one row after the other, in float32 whatever it was trained in."""
    import torch

    model.float().eval()
    nats, num_targets, chars = 0.0, 0, 0
    with torch.no_grad():
        for row in rows:
            labels_T = torch.tensor(row.labels[1:])
            logits_TV = model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0, :-1]
            nats += torch.nn.functional.cross_entropy(logits_TV, labels_T, ignore_index=IGNORED, reduction="sum").item()
            answer_N = labels_T[labels_T != IGNORED].tolist()
            num_targets += len(answer_N)
            chars += sum(num_chars[number] for number in answer_N)
    return {
        "heldout_nats_per_target_token": nats / num_targets,
        "heldout_bits_per_char": nats / math.log(2) / chars,
        "heldout_num_target_tokens": num_targets,
        "heldout_num_chars": chars,
    }


def _read_usable(source: Path) -> Iterator[Row]:
    """Rows with a question and an answer, each question once."""
    seen: set[tuple[str, str]] = set()
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            row = {name: (record[f"zh_{name}"] or "").strip() for name in ("instruction", "input", "output")}
            asked = (row["instruction"], row["input"])
            if asked in seen or not row["instruction"] or not row["output"]:
                continue
            if sum(map(len, row.values())) <= MAX_CHARS:
                seen.add(asked)
                yield row


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


if __name__ == "__main__":
    sys.exit(main())
