"""The memory estimate of `baihua doctor --fit` compared with the peak of llama.cpp in a fresh process.

Usage: python bench/compress/fit.py [--only N ...]      (with OMP_NUM_THREADS=1 where other work is running; Linux)

The models have real shapes and zero weights: memory does not depend on values. The product's own ChatModel reads a text
that fills the context, or 2,048 tokens of a longer one, and answers. The peak is that of the whole process (VmHWM),
less the weights that llama.cpp has rearranged in a second copy ("repacked" below, from its own log), whose mapped
pages the system may drop.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, int]] = {
    "30m": {"layers": 10, "width": 384, "mlp": 1024, "heads": 6, "kv": 2, "dim": 64, "tokens": 32768},
    "135m": {"layers": 30, "width": 576, "mlp": 1536, "heads": 9, "kv": 3, "dim": 64, "tokens": 49152},
    "360m": {"layers": 32, "width": 960, "mlp": 2560, "heads": 15, "kv": 5, "dim": 64, "tokens": 49152},
    # As wide as a model of a billion weights, with few layers; and as many tokens as Qwen2.5-0.5B.
    "wide": {"layers": 4, "width": 2048, "mlp": 5632, "heads": 32, "kv": 4, "dim": 64, "tokens": 32000},
    "many-tokens": {"layers": 8, "width": 896, "mlp": 4864, "heads": 14, "kv": 2, "dim": 64, "tokens": 151936},
}
# Model, level, tokens of context, conversations at once.
COMBINATIONS: list[tuple[str, str, int, int]] = [
    ("30m", "f16", 512, 1),
    ("30m", "q8_0", 2048, 1),
    ("30m", "q4_k_m", 8192, 1),
    ("135m", "f16", 2048, 1),
    ("135m", "q8_0", 512, 1),
    ("135m", "q4_0", 2048, 1),
    ("135m", "q4_k_m", 8192, 1),
    ("135m", "q8_0", 8192, 2),
    ("360m", "f16", 512, 1),
    ("360m", "q8_0", 8192, 1),
    ("360m", "q5_k_m", 2048, 1),
    ("360m", "q4_k_m", 2048, 1),
    ("wide", "q6_k", 512, 1),
    ("wide", "iq4_nl", 2048, 1),
    ("wide", "q2_k", 8192, 1),
    ("many-tokens", "q8_0", 512, 1),
    ("many-tokens", "q4_k_m", 2048, 1),
    ("many-tokens", "q3_k_m", 8192, 4),
]
MAX_FILLED = 2048
"""Tokens; more take too long on one thread, and only the mask grows with them once the cache is allocated."""
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
TEMPLATE += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CONTROLS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def main() -> int:
    """Measure each combination in a separate process; 1 if an estimate is off by more than a tenth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, nargs="*", default=list(range(len(COMBINATIONS))))
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        _, _, num_ctx, num_slots = COMBINATIONS[arguments.one]
        print(json.dumps({"peak": measure(arguments.file, num_ctx, num_slots)}))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return compare(arguments.only, Path(folder))


def compare(numbers: list[int], folder: Path) -> int:
    """Run the combinations and print a row for each."""
    worst = 0.0
    print(
        "| model | level | context | at once | estimate MB | measured MB | repacked MB | ratio |\n" + "|---" * 8 + "|"
    )
    for number in numbers:
        name, level, num_ctx, num_slots = COMBINATIONS[number]
        file = make_model(folder / "model.gguf", SHAPES[name], level)
        measured, repacked = run_one(number, file)
        parts = estimate(file, num_ctx, num_slots)
        found = parts.total / (measured - repacked)
        worst = max(worst, abs(found - 1))
        sizes = " | ".join(f"{size / 1e6:,.0f}" for size in (parts.total, measured - repacked, repacked))
        print(f"| {' | '.join(map(str, COMBINATIONS[number]))} | {sizes} | {found:.3f} |", flush=True)
        print(parts, file=sys.stderr)
    print(f"\nfurthest from the measured peak: {worst:.1%}")
    return int(worst > 0.1)


def make_model(file: Path, shape: dict[str, int], level: str) -> Path:
    """A GGUF file with every tensor of a Llama of that shape in its type, all weights zero."""
    import numpy as np
    from gguf import GGUFWriter
    from gguf.constants import TokenType
    from tokenizers.pre_tokenizers import ByteLevel

    from baihua.compress.levels import choose_types
    from baihua.modelfiles.description import describe

    tokens = CONTROLS + sorted(ByteLevel.alphabet())
    tokens += [f"t{i}" for i in range(len(tokens), shape["tokens"])]

    def write(types: dict[str, Any], target: Path) -> None:
        writer = GGUFWriter(target, "llama")
        _write_sizes(writer, shape)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("smollm")
        writer.add_token_list(tokens)
        writer.add_token_types([TokenType.CONTROL] * 3 + [TokenType.NORMAL] * (len(tokens) - 3))
        # As many merges as a true vocabulary has, of pieces that no text contains.
        writer.add_token_merges([f"t{i} t{i + 1}" for i in range(259, len(tokens) - 1)])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_chat_template(TEMPLATE)
        for name, length in _tensors(shape).items():
            num_bytes, raw = types.get(name, (4 * int(np.prod(length)), None))
            writer.add_tensor_info(name, length, np.dtype(np.float32), num_bytes, raw_dtype=raw)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        with target.open("rb+") as out:
            out.truncate(target.stat().st_size + sum(n for n, _ in types.values()) + 2**16 + (0 if types else 2**36))

    # The sizes of a file in float32 say which types the level chooses; its data is a hole in the file.
    plan = file.with_name("plan.gguf")
    write({}, plan)
    choices = choose_types(describe(plan), level)
    plan.unlink()
    write({choice.tensor.name: (choice.num_bytes, choice.type) for choice in choices}, file)
    return file


def _write_sizes(writer: Any, shape: dict[str, int]) -> None:
    writer.add_context_length(32768)
    writer.add_embedding_length(shape["width"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["mlp"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv"])
    writer.add_key_length(shape["dim"])
    writer.add_value_length(shape["dim"])
    writer.add_rope_dimension_count(shape["dim"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape["tokens"])


def _tensors(shape: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a Llama with tied embeddings, rows first."""
    width, mlp, query, key = shape["width"], shape["mlp"], shape["heads"] * shape["dim"], shape["kv"] * shape["dim"]
    layer: dict[str, tuple[int, ...]] = {
        "attn_norm": (width,),
        "attn_q": (query, width),
        "attn_k": (key, width),
        "attn_v": (key, width),
        "attn_output": (width, query),
        "ffn_norm": (width,),
        "ffn_gate": (mlp, width),
        "ffn_up": (mlp, width),
        "ffn_down": (width, mlp),
    }
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (shape["tokens"], width), "output_norm.weight": (width,)}
    return found | {f"blk.{i}.{name}.weight": size for i in range(shape["layers"]) for name, size in layer.items()}


def estimate(file: Path, num_ctx: int, num_slots: int) -> Any:
    """The estimate of fit.py."""
    from baihua.compress.fit import memory_of
    from baihua.modelfiles.gguf_header import read_model_header
    from baihua.modelfiles.shape import shape_of_header

    header = read_model_header(file)
    return memory_of(shape_of_header(header), header.tensors, num_ctx, num_slots)


def measure(file: Path, num_ctx: int, num_slots: int) -> int:
    """Fill each conversation and answer; the peak of this process in bytes."""
    from concurrent.futures import ThreadPoolExecutor

    from baihua.backends.llama_cpp.chat import open_chat
    from baihua.chat.types import Message, Sampling

    model = open_chat(file, num_threads=1, num_ctx=num_ctx, num_slots=num_slots)
    # A byte is a token of this vocabulary, which has no merges that a text needs.
    text = "a" * (min(num_ctx, MAX_FILLED) - 64)

    def ask(number: int) -> None:
        for _ in model.stream([Message("user", f"{number} {text}")], Sampling(temperature=0.0, max_tokens=4)):
            pass

    with ThreadPoolExecutor(num_slots) as threads:
        list(threads.map(ask, range(num_slots)))
    return _peak_of_process()


def run_one(number: int, file: Path) -> tuple[int, int]:
    """Peak of a fresh process, and bytes of llama.cpp's second copy of weights."""
    command = [sys.executable, __file__, "--one", str(number), "--file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])["peak"], _repacked(file)


def _repacked(file: Path) -> int:
    code = (
        "import sys; from pathlib import Path; from baihua.core import log; log.set_up(debug=True);"
        "from baihua.backends.llama_cpp.scorer import Network;"
        "Network(Path(sys.argv[1]), num_ctx=512, num_threads=1)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    found = re.search(r"CPU_REPACK model buffer size = +([\d.]+) MiB", done.stderr)
    return round(float(found[1]) * 2**20) if found else 0


def _peak_of_process() -> int:
    """The most memory that this process held; `ru_maxrss` would begin with that of its parent."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    sys.exit(main())
