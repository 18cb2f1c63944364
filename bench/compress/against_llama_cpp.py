"""Our quantizer compared with llama.cpp's own on the same f16 file: sizes, tensors, and the loss on the same texts.

Usage: python bench/compress/against_llama_cpp.py MODEL DATA WORK --llama-cpp PYTHON [--levels q8_0 ...]
       [--texts 60] [--threads N]

MODEL is a model folder or an f16 GGUF file; DATA is conversations or documents, as `import_data` leaves them; PYTHON is
the interpreter of an environment that has llama-cpp-python (0.3.36 was tested). Prints a table; 1 where a size differs
by more than 0.1 % or a mean KL by more than 10 %.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
from baihua.compress.damage.distance import Distance, compare, record, score
from baihua.compress.damage.texts import TextReader, has_conversations
from baihua.compress.export import write_gguf
from baihua.compress.quantize import quantize_gguf
from baihua.modelfiles.gguf_header import Tensor, read_model_header
from baihua.statistics.clusters import ratio
from baihua.statistics.paired import compare_paired

LEVELS = ("q8_0", "q6_k", "q4_k_m", "q4_0", "q3_k_m", "q2_k")
MAX_SIZE_DIFFERENCE, MAX_KL_DIFFERENCE = 0.001, 0.1
MAX_LENGTH = 512
THEIRS = """
import ctypes, sys, llama_cpp
source, target, level = sys.argv[1:]
params = llama_cpp.llama_model_quantize_default_params()
params.ftype = vars(llama_cpp)["LLAMA_FTYPE_MOSTLY_" + level.upper()]
sys.exit(llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)))
"""


def main() -> int:
    """Quantize each level twice, measure both files and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "data", "work"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--llama-cpp", required=True)
    parser.add_argument("--levels", nargs="+", default=LEVELS)
    parser.add_argument("--texts", type=int, default=60)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    source = options.model
    if source.is_dir():
        source = options.work / "model-f16.gguf"
        write_gguf(options.model, source, level="f16")
    tokenizer = GgufTokenizer(source)
    template = tokenizer.template() if has_conversations(options.data) else None
    texts = TextReader(tokenizer, template, max_length=MAX_LENGTH).read(options.data, num_texts=options.texts)
    scratch = options.work / "reference.scratch"
    reference = record(scratch, texts, score(source, texts, num_threads=options.threads))
    print(
        "| level | MB ours | size, ours/theirs | tensors | other type | other bytes | KL ours | KL theirs | ratio | p |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    is_far = False
    for level in options.levels:
        ours, theirs = (options.work / f"{who}-{level}.gguf" for who in ("ours", "theirs"))
        quantize_gguf(source, ours, level=level)
        subprocess.run([options.llama_cpp, "-c", THEIRS, source, theirs, level], check=True, capture_output=True)
        scored = [score(file, texts, num_threads=options.threads) for file in (ours, theirs)]
        row, is_level_far = compare_two(ours, theirs, [compare(reference, one) for one in scored])
        print(f"| {level} | {' | '.join(row)} |", flush=True)
        is_far |= is_level_far
    scratch.unlink()
    return int(is_far)


def compare_two(ours: Path, theirs: Path, distances: list[list[Distance]]) -> tuple[list[str], bool]:
    """The cells of a row, and whether the two files differ by more than they may."""
    size = ours.stat().st_size / theirs.stat().st_size
    num_tensors, num_types, num_bytes = count_differences(ours, theirs)
    first, second = ([float(d.kl_T.sum()) for d in one] for one in distances)
    lengths = [float(len(d.kl_T)) for d in distances[0]]
    kl = [found.value for one in (first, second) if (found := ratio(one, lengths))]
    compared = compare_paired(first, second, lengths)
    assert len(kl) == 2 and compared, "there are texts"
    row = [f"{ours.stat().st_size / 1e6:,.1f}", f"{size:.5f}", *map(str, (num_tensors, num_types, num_bytes))]
    row += [f"{kl[0]:.6f}", f"{kl[1]:.6f}", f"{kl[0] / kl[1]:.4f}", f"{compared.p:.3f}"]
    return row, abs(size - 1) > MAX_SIZE_DIFFERENCE or abs(kl[0] / kl[1] - 1) > MAX_KL_DIFFERENCE


def count_differences(ours: Path, theirs: Path) -> tuple[int, int, int]:
    """Tensors of our file; those of another type in theirs, or not there; those of the same type but other bytes."""
    first, second = read_model_header(ours), read_model_header(theirs)
    others = {tensor.name: tensor for tensor in second.tensors}
    pairs = [(tensor, others.get(tensor.name)) for tensor in first.tensors]
    same_type = [(a, b) for a, b in pairs if b and a.type == b.type]
    num_bytes = sum(
        read_tensor(ours, a, first.data_start) != read_tensor(theirs, b, second.data_start) for a, b in same_type
    )
    return len(pairs), len(pairs) - len(same_type), num_bytes


def read_tensor(file: Path, tensor: Tensor, data_start: int) -> bytes:
    """The data of one tensor."""
    with file.open("rb") as stream:
        stream.seek(data_start + tensor.offset)
        return stream.read(tensor.num_bytes)


if __name__ == "__main__":
    sys.exit(main())
