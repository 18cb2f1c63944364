"""What each level costs, as Markdown for docs/log.md.

Usage: python bench/compress/damage.py MODEL DATA WORK [--levels q8_0 q4_k_m ...] [--questions DATA]
       [--texts 60] [--replies 20] [--speed-tokens 64] [--threads N]

MODEL is a model folder, which is written as f16 and quantized in WORK first, or a folder of `model-LEVEL.gguf` files;
DATA is conversations or documents, as `import_data` leaves them. WORK keeps damage.json, the chart and the replies.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from baihua.compress.damage.tables import markdown
from baihua.compress.gguf import write_gguf
from baihua.compress.quantize import quantize_gguf
from baihua.stages import damage

LEVELS = ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "q3_k_m", "q2_k")


def main() -> int:
    """Quantize what is not there yet, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "data", "work"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--levels", nargs="+")
    parser.add_argument("--questions", type=Path)
    parser.add_argument("--texts", type=int, default=60)
    parser.add_argument("--replies", type=int, default=20)
    parser.add_argument("--speed-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    folder = options.model
    if (folder / "config.json").is_file():
        folder = make_levels(folder, options.work, options.levels or LEVELS)
    inputs = {"model": folder, "data": options.data}
    config = damage.Config(
        levels=options.levels,
        num_texts=options.texts,
        num_replies=options.replies,
        num_speed_tokens=options.speed_tokens,
        num_threads=options.threads,
    )
    inputs |= {"questions": options.questions} if options.questions else {}
    print(markdown(damage.run(config, inputs, options.work)))
    return 0


def make_levels(model: Path, work: Path, levels: Sequence[str]) -> Path:
    """The model's f16 file and its levels in WORK, those that are there already left as they are."""
    source = work / "model-f16.gguf"
    if not source.is_file():
        write_gguf(model, source, level="f16")
    for level in levels:
        if not (work / f"model-{level}.gguf").is_file():
            quantize_gguf(source, work / f"model-{level}.gguf", level=level)
    return work


if __name__ == "__main__":
    sys.exit(main())
