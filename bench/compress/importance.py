"""The effect of an importance matrix from Chinese text on the loss on other Chinese text.

Usage: python bench/compress/importance.py MODEL DATA HELDOUT WORK [--levels q4_0 q3_k_m] [--tokens 32768]
       [--texts 100] [--threads N]

MODEL is a model folder; DATA and HELDOUT are conversations or documents, as `import_data` leaves them, from different
rows. The matrix comes from the mainly Chinese rows of DATA. Prints mean KL to f16 with and without it, on the Chinese
and the English texts of HELDOUT, and a paired test over the texts.
"""

import argparse
import sys
from pathlib import Path

from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
from baihua.compress import importance
from baihua.compress.damage.distance import Distance, Text, compare, record, score
from baihua.compress.damage.texts import LANGUAGES, TextReader, has_conversations
from baihua.compress.export import write_gguf
from baihua.compress.quantize import quantize_gguf
from baihua.statistics.clusters import ratio
from baihua.statistics.paired import compare_paired

MAX_LENGTH = 512
# More rows than any number of tokens here takes.
MANY = 100_000


def main() -> int:
    """Quantize each level with and without, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "data", "heldout", "work"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--levels", nargs="+", default=["q4_0", "q3_k_m"])
    parser.add_argument("--tokens", type=int, default=32_768)
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    source = options.work / "model-f16.gguf"
    write_gguf(options.model, source, level="f16")
    tokenizer = GgufTokenizer(source)
    template = tokenizer.template() if has_conversations(options.data) else None
    reader = TextReader(tokenizer, template, max_length=MAX_LENGTH)
    learnt = take([text for text in reader.read(options.data, num_texts=MANY) if text.language == "zh"], options.tokens)
    found = importance.collect(options.model, learnt)
    print(
        f"importance matrix: {len(found)} matrices from {sum(map(len, learnt)):,} tokens of {len(learnt)} Chinese rows"
    )
    texts = reader.read(options.heldout, num_texts=options.texts)
    scratch = options.work / "reference.scratch"
    reference = record(scratch, texts, score(source, texts, num_threads=options.threads))
    print("\n| level | text | n | KL without | KL with | lower by | difference ± se | p |\n" + "|---" * 8 + "|")
    for level in options.levels:
        files = {name: options.work / f"{name}-{level}.gguf" for name in ("without", "with")}
        quantize_gguf(source, files["without"], level=level)
        quantize_gguf(source, files["with"], level=level, importance=found)
        scored = {name: score(file, texts, num_threads=options.threads) for name, file in files.items()}
        distances = {name: compare(reference, one) for name, one in scored.items()}
        for language in LANGUAGES:
            chosen = [number for number, text in enumerate(texts) if text.language == language]
            print(f"| {level} | {language} | {len(chosen)} | {row(distances, chosen)} |", flush=True)
    scratch.unlink()
    return 0


def take(texts: list[Text], num_tokens: int) -> list[list[int]]:
    """Texts until there are so many tokens."""
    taken: list[list[int]] = []
    for text in texts:
        left = num_tokens - sum(map(len, taken))
        if left <= 0:
            break
        taken.append(text.example.ids_T[:left].tolist())
    return taken


def row(distances: dict[str, list[Distance]], chosen: list[int]) -> str:
    """The figures of a level on some texts."""
    sums = {name: [float(found[number].kl_T.sum()) for number in chosen] for name, found in distances.items()}
    lengths = [float(len(distances["with"][number].kl_T)) for number in chosen]
    means = {name: ratio(values, lengths) for name, values in sums.items()}
    tested = compare_paired(sums["with"], sums["without"], lengths)
    without, with_it = means["without"], means["with"]
    assert without and with_it and tested, "there are texts"
    cells = [f"{one.value:.4f} ± {one.standard_error or float('nan'):.4f}" for one in (without, with_it)]
    cells += [f"{1 - with_it.value / without.value:.1%}"]
    cells += [f"{tested.value:.4f} ± {tested.standard_error or float('nan'):.4f}", f"{tested.p:.1g}"]
    return " | ".join(cells)


if __name__ == "__main__":
    sys.exit(main())
