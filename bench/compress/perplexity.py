"""The loss of a level, split between its weights and the activations that llama.cpp rounds to 8 bits.

Usage: python bench/compress/perplexity.py MODEL DATA WORK [--levels q8_0 q4_0] [--texts 40] [--threads N]

MODEL is a model folder, DATA conversations or documents, as `import_data` leaves them. Perplexity and bits a character
of the same texts: transformers in float32; llama.cpp on f16; then for each level transformers in float32 on the
dequantized weights (imported back), and llama.cpp on the file itself. The last two differ only by the rounding of
activations.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from baihua.backends import transformers
from baihua.backends.llama_cpp import scorer as llama_cpp_scorer
from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
from baihua.compress.damage.distance import Text
from baihua.compress.damage.texts import TextReader, has_conversations
from baihua.compress.export import write_gguf
from baihua.compress.quantize import quantize_gguf
from baihua.model.compare import LogProbs, bits_of
from baihua.model.from_gguf import convert

MAX_LENGTH = 512


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "data", "work"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--levels", nargs="+", default=["q8_0", "q4_0"])
    parser.add_argument("--texts", type=int, default=40)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    first = options.work / "model-f16.gguf"
    write_gguf(options.model, first, level="f16")
    tokenizer = GgufTokenizer(first)
    template = tokenizer.template() if has_conversations(options.data) else None
    texts = TextReader(tokenizer, template, max_length=MAX_LENGTH).read(options.data, num_texts=options.texts)
    print(f"{len(texts)} texts, {sum(text.num_positions for text in texts):,} predicted tokens\n")
    print("| weights | computed by | perplexity a token | bits a character | against transformers float32 |")
    print("|---|---|---|---|---|")
    base = show("float32", "transformers", transformers.open_scorer(options.model).log_probs, texts, None)
    show("f16", "llama.cpp", llama_cpp_scorer.open_scorer(first, options.threads).log_probs, texts, base)
    for level in options.levels:
        file, folder = options.work / f"model-{level}.gguf", options.work / f"back-{level}"
        quantize_gguf(first, file, level=level)
        convert(file, folder)
        show(f"{level}, multiplied out", "transformers", transformers.open_scorer(folder).log_probs, texts, base)
        show(level, "llama.cpp", llama_cpp_scorer.open_scorer(file, options.threads).log_probs, texts, base)
    return 0


def show(weights: str, by: str, log_probs: LogProbs, texts: Sequence[Text], base: float | None) -> float:
    """One line; the nats a token."""
    nats = counted = 0.0
    for text in texts:
        log_probs_TV = log_probs(text.example.ids_T.tolist())  # noqa: N806
        nats_T = math.log(2) * bits_of(text.example.ids_T, log_probs_TV)  # noqa: N806
        nats += float(nats_T.sum())
        counted += float(nats_T[text.example.is_target_T[1:]].sum())
    mean = nats / sum(text.num_positions for text in texts)
    bits = counted / math.log(2) / sum(text.num_chars for text in texts)
    change = "" if base is None else f"{math.exp(mean - base) - 1:+.3%}"
    print(f"| {weights} | {by} | {math.exp(mean):.4f} | {bits:.4f} | {change} |", flush=True)
    return mean


if __name__ == "__main__":
    sys.exit(main())
