"""Is an imported GGUF base exact? Token ids against llama.cpp's, and the f16 re-export against the folder.

Usage: python bench/exact_import.py MODEL_FOLDER ORIGINAL.gguf [--lines 12000] [--chunks 16] [TEXT_FILE ...]

Lines come from the starter set and the given text files (.gz too), and are mixed: whole, joined, and cut at random
places, with digits, spaces, emoji and code put in. The KL is per token, in nats, of the folder in float32 (torch) to
the f16 file (llama.cpp), on chunks of 256 tokens.
"""

import argparse
import gzip
import random
import sys
import tempfile
from pathlib import Path

from baihua.backends.choose import open_scorer
from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
from baihua.chat.tokenizer import FolderTokenizer
from baihua.compress.export import write_gguf
from baihua.data.read.files import STARTER_FOLDER
from baihua.model.compare import compare_pairs

ODDITIES = (
    "  12 345",
    "😀👨‍👩‍👧",
    "\tdef f(x):\n    return x**2",
    "３．１４",
    "　",
    "don't",
    "<|im_end|>",
    "2026-11-22",
    "ÀÉî",
    "\r\n",
)


def read_lines(files: list[Path]) -> list[str]:
    """Lines of text files, compressed or not."""
    lines: list[str] = []
    for file in files:
        opener = gzip.open if file.suffix == ".gz" else open
        with opener(file, "rt", encoding="utf-8") as stream:
            lines += [line.rstrip("\n") for line in stream if line.strip()]
    return lines


def mix(lines: list[str], count: int, rng: random.Random) -> list[str]:
    """Lines as they are, pairs of them joined, and pieces cut anywhere, with oddities put in."""
    mixed: list[str] = []
    for number in range(count):
        text = rng.choice(lines)
        if number % 3 == 1:
            text = text[: rng.randrange(1, 200)] + rng.choice(ODDITIES) + rng.choice(lines)[:200]
        if number % 3 == 2:
            start = rng.randrange(len(text))
            text = text[start : start + rng.randrange(1, 300)] + rng.choice(ODDITIES)
        mixed.append(text)
    return mixed


def main() -> int:
    """Print both figures; 1 if they are not exact."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("texts", type=Path, nargs="*")
    parser.add_argument("--lines", type=int, default=12_000)
    parser.add_argument("--chunks", type=int, default=16)
    options = parser.parse_args()
    lines = read_lines([*sorted(STARTER_FOLDER.glob("*.jsonl")), *options.texts])
    texts = mix(lines, options.lines, random.Random(0))
    ours, theirs = FolderTokenizer(options.model), GgufTokenizer(options.gguf)
    different = [text for text in texts if ours.encode(text) != theirs.encode(text)]
    print(f"token ids: {len(texts) - len(different):,} of {len(texts):,} lines equal; first different: {different[:1]}")
    ids = ours.encode("\n".join(texts[: options.chunks * 40]))
    chunks = [ids[start : start + 256] for start in range(0, options.chunks * 256, 256)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model-f16.gguf"
        write_gguf(options.model, file, level="f16")
        ours, theirs = open_scorer(options.model).log_probs, open_scorer(file).log_probs
        parity = compare_pairs((ours(ids), theirs(ids)) for ids in chunks)
    print(f"float32 folder to f16 GGUF: {parity}")
    return int(bool(different) or parity.mean_kl >= 1e-4)


if __name__ == "__main__":
    sys.exit(main())
