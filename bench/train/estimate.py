"""The memory estimate of `baihua check` against measured peaks: twelve combinations, each trained in a fresh process.

Usage: python bench/train/estimate.py [--only N ...] [--precision float32]
       (with OMP_NUM_THREADS=1 where other work is running; float32 for all where the processor has no bfloat16)

Random models of three sizes are trained for two steps of two batches each by the product's own loop. The peak is that
of the whole process (VmHWM; Linux), or on a GPU what torch allocated, which has no context in it. Documents have
lengths of every multiple of 64 up to 512.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, int]] = {
    "30m": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 10, "vocab_size": 32768}
    | {"num_attention_heads": 6, "num_key_value_heads": 2},
    "135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "vocab_size": 49152}
    | {"num_attention_heads": 9, "num_key_value_heads": 3},
    "360m": {"hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32, "vocab_size": 49152}
    | {"num_attention_heads": 15, "num_key_value_heads": 5},
}
# Model, method, tokens of a batch, precision, checkpointing.
COMBINATIONS: list[tuple[str, str, int, str, bool]] = [
    ("135m", "lora", 512, "bfloat16", False),
    ("135m", "lora", 2048, "bfloat16", False),
    ("135m", "lora", 2048, "bfloat16", True),
    ("135m", "lora", 1024, "float32", False),
    ("135m", "full", 512, "bfloat16", False),
    ("135m", "full", 2048, "bfloat16", False),
    ("135m", "full", 2048, "bfloat16", True),
    ("135m", "freeze", 2048, "bfloat16", False),
    ("135m", "qlora", 1024, "bfloat16", False),
    ("30m", "full", 2048, "bfloat16", False),
    ("360m", "lora", 512, "bfloat16", False),
    ("360m", "lora", 2048, "bfloat16", True),
]
NUM_STEPS, NUM_BATCHES, SHARE = 2, 2, 0.5
# As docs/training.md states it.
MARGIN = 0.15


def main() -> int:
    """Train each combination in a separate process, and print estimate and measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, nargs="*", default=list(range(len(COMBINATIONS))))
    parser.add_argument("--precision", choices=["float32", "bfloat16"], help="instead of the combinations' own")
    parser.add_argument("--make", help=argparse.SUPPRESS)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        make_model(arguments.make, arguments.folder)
    elif arguments.one is not None:
        print(json.dumps(measure(arguments.folder, *chosen(arguments.one, arguments.precision))))
    else:
        with tempfile.TemporaryDirectory() as folder:
            return compare(arguments.only, Path(folder), arguments.precision)
    return 0


def compare(numbers: list[int], folder: Path, precision: str | None) -> int:
    """Run the combinations; 1 if one differs by more than the stated margin."""
    worst = 0.0
    for name in sorted({COMBINATIONS[number][0] for number in numbers}):
        _run("--make", name, "--folder", str(folder / name))
    print(
        "| model | method | tokens | precision | checkpointing | estimate MB | measured MB | ratio |\n"
        + "|---" * 8
        + "|"
    )
    for number in numbers:
        wanted = chosen(number, precision)
        extra = ["--precision", precision] if precision else []
        found = json.loads(_run("--one", str(number), "--folder", str(folder / wanted[0]), *extra))
        ratio = found["estimate"] / found["measured"]
        worst = max(worst, abs(ratio - 1))
        sizes = f"{found['estimate'] / 1e6:,.0f} | {found['measured'] / 1e6:,.0f} | {ratio:.3f}"
        print(f"| {' | '.join(map(str, wanted))} | {sizes} |", flush=True)
        print(found["parts"], file=sys.stderr)
    print(f"\nfurthest from the measured peak: {worst:.1%}")
    return int(worst > MARGIN)


def chosen(number: int, precision: str | None) -> tuple[str, str, int, str, bool]:
    """A combination, in another precision where one is wanted."""
    name, method, num_tokens, own, uses_checkpointing = COMBINATIONS[number]
    return name, method, num_tokens, precision or own, uses_checkpointing


def make_model(name: str, folder: Path) -> None:
    """A random model in a folder; in a separate process, so that it does not count in the peak of training."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[name], tie_word_embeddings=True)  # pyright: ignore[reportArgumentType]
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)  # pyright: ignore[reportArgumentType]


def make_examples(num_tokens: int, vocabulary: int) -> list[Any]:
    """Enough for all steps; the second half of each is trained."""
    import numpy as np

    from baihua.model.examples import Example, TextSize

    rng = random.Random(0)
    numbers = np.random.default_rng(0)
    examples: list[Example] = []
    while sum(len(example.ids_T) for example in examples) < (NUM_STEPS + 1) * NUM_BATCHES * num_tokens:
        length = 64 * rng.randint(1, 8)
        is_target = np.arange(length) >= length * (1 - SHARE)
        ids = numbers.integers(3, vocabulary, length).astype(np.int32)
        size = TextSize(length, length)
        examples.append(Example(str(len(examples)), ids, is_target, size, size))
    return examples


def measure(
    base: Path, name: str, method: str, num_tokens: int, precision: Any, uses_checkpointing: bool
) -> dict[str, Any]:
    """Train two steps; the estimate, its parts, and the measured peak in bytes."""
    import torch

    from baihua.core.system import peak_memory_bytes
    from baihua.modelfiles.shape import shape_of
    from baihua.train.config import TrainingConfig
    from baihua.train.loop import train
    from baihua.train.methods import find_method
    from baihua.train.plan.device import choose_device, this_machine
    from baihua.train.plan.memory import estimate_memory
    from baihua.train.plan.plan import Plan
    from baihua.train.plan.workload import make_workload

    device = choose_device()
    examples = make_examples(num_tokens, SHAPES[name]["vocab_size"])
    config = TrainingConfig.model_validate(
        {
            "method": method,
            "max_length": 512,
            "precision": precision,
            "batches": {"num_tokens_per_step": NUM_BATCHES * num_tokens, "num_tokens_per_batch": num_tokens},
        }
    )
    kind = find_method(method)
    model = kind.prepare(kind.load(base, precision=precision, device=device), config.method)
    plan = Plan(
        config=config,
        num_steps=NUM_STEPS,
        num_tokens_per_batch=num_tokens,
        precision=precision,
        recomputes=uses_checkpointing,
    )
    with tempfile.TemporaryDirectory() as out:
        train(model, examples, out=Path(out), plan=plan)
    lengths = [len(example.ids_T) for example in examples]
    machine = this_machine(device, precision=precision)
    work = make_workload(config, shape_of(base), lengths, target_share=SHARE, machine=machine)
    parts = estimate_memory(replace(work, recomputes=uses_checkpointing))
    on_gpu = device.type == "cuda"
    measured = torch.cuda.max_memory_allocated() if on_gpu else peak_memory_bytes()
    return {"estimate": parts.total - (parts.fixed if on_gpu else 0), "measured": measured, "parts": str(parts)}


def _run(*arguments: str) -> str:
    """The last line that this file prints with other arguments."""
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, check=True, text=True)
    return (done.stdout.splitlines() or [""])[-1]


if __name__ == "__main__":
    sys.exit(main())
