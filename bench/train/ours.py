"""How fast, and to what end, does Baihua train the LoRA that `rivals.py` trains with other tools? On the same rows.

Usage: python bench/train/ours.py --model DIR --data train.jsonl --heldout heldout.jsonl --out FILE.json
       (--seconds N | --rows N) [--tokens-per-batch 4096] [--dropout 0] [--seed 0]

DIR is what the stage import_model made. The same figures as from `rivals.py`, and the share of this machine's measured
peak, in the precision of training, that the operations really done come to: 4 a body weight and token (the frozen
weights have no gradients of their own), 4 a head weight and target, 6 an adapter weight and token, and attention with
its recomputation.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rivals import MAX_LENGTH, NUM_ROWS_PER_STEP, NUM_THREADS, NUM_WARMUP_STEPS, peak_memory_bytes
from rows import count_chars, encode, measure, read_rows
from transformers import AutoTokenizer

from baihua.chat.template import open_template
from baihua.chat.types import Message
from baihua.data.rows import Row
from baihua.model.examples import Encoder, Example
from baihua.model.load import load_model
from baihua.model.merge import attach
from baihua.train.config import TrainingConfig
from baihua.train.examples.encode import make_examples
from baihua.train.loop import METRICS, train
from baihua.train.methods import lora
from baihua.train.plan.device import choose_precision
from baihua.train.plan.plan import Plan


def main() -> int:
    """Train, and write what was found."""
    arguments = parse()
    torch.set_num_threads(NUM_THREADS)
    rows = read_rows(arguments.data, arguments.rows)
    encoder = Encoder(*open_template("chatml", arguments.model))
    examples = make_examples([as_row(i, row) for i, row in enumerate(rows)], encoder, max_length=MAX_LENGTH).kept
    precision = choose_precision("auto", torch.device("cpu"))
    config = lora.Config(rank=8, alpha=16, dropout=arguments.dropout)
    base = lora.load(arguments.model, precision=precision, device=torch.device("cpu"))
    torch.manual_seed(arguments.seed)
    model = lora.prepare(base, config)
    num_steps = -(-len(examples) // NUM_ROWS_PER_STEP)
    plan = Plan(
        config=TrainingConfig.model_validate(
            {
                "method": config,
                "seed": arguments.seed,
                "learning_rate": 2e-4,
                "batches": {"num_rows_per_step": NUM_ROWS_PER_STEP},
                "schedule": {"warmup_ratio": 0.03},
                "checkpoints": {"save_steps": 10**9},
            }
        ),
        num_steps=num_steps,
        num_tokens_per_batch=arguments.tokens_per_batch,
        precision=precision,
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        if arguments.seconds:
            threading.Thread(target=stop_after, args=(arguments.seconds, out / METRICS), daemon=True).start()
        try:
            state = train(model, examples, out=out, plan=plan).state
        except KeyboardInterrupt:
            state = {}
        lines = [json.loads(line) for line in (out / METRICS).read_text(encoding="utf-8").splitlines()]
        figures: dict[str, Any] = {"tool": "baihua"} | summarize(lines) | {"peak_memory_bytes": peak_memory_bytes()}
        peak = measure_peak(getattr(torch, precision))
        figures["mfu"] = figures["tokens_per_second"] * operations_per_token(model, examples) / peak
        if arguments.rows:
            lora.save(model, out / "adapter", base=arguments.model, jinja=encoder.template.jinja, state=state)
            adapted = attach(load_model(arguments.model), out / "adapter")
            tokenizer = AutoTokenizer.from_pretrained(arguments.model)
            heldout = [encode(row, tokenizer, max_length=MAX_LENGTH) for row in read_rows(arguments.heldout)]
            figures |= measure(adapted, heldout, count_chars(tokenizer))
    arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures))
    return 0


def as_row(number: int, row: dict[str, str]) -> Row:
    """An Alpaca row as a conversation."""
    asked = Message("user", row["instruction"], row["input"] or None)
    return Row(
        str(number), (asked, Message("assistant", row["output"])), source="", file="train.jsonl", line=number + 1
    )


def stop_after(seconds: float, metrics: Path) -> None:
    """Ask training to stop so long after its first steps."""
    while not metrics.is_file() or len(metrics.read_text(encoding="utf-8").splitlines()) < NUM_WARMUP_STEPS:
        time.sleep(0.1)
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGTERM)


def summarize(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rates over the steps after the first ones."""
    timed = lines[NUM_WARMUP_STEPS:]
    num_tokens = lines[-1]["num_tokens"] - lines[NUM_WARMUP_STEPS - 1]["num_tokens"]
    before = [line["num_tokens"] for line in lines[NUM_WARMUP_STEPS - 1 : -1]]
    seconds = [(line["num_tokens"] - b) / line["tokens_per_second"] for line, b in zip(timed, before, strict=True)]
    chars = sum(line["chars_per_second"] * s for line, s in zip(timed, seconds, strict=True))
    return {
        "tokens_per_second": num_tokens / sum(seconds),
        "chars_per_second": chars / sum(seconds),
        "tokens_per_second_of_best_step": max(line["tokens_per_second"] for line in timed),
        "all": {"num_steps": lines[-1]["step"], "num_tokens": lines[-1]["num_tokens"]},
        "last_losses": [line["loss"] for line in lines[-5:]],
    }


def operations_per_token(model: Any, examples: Sequence[Example]) -> float:
    """Floating-point operations really done for a token of these examples."""
    config = model.config
    named = dict(model.named_parameters())
    body = sum(p.numel() for name, p in named.items() if ".layers." in name and "lora_" not in name and p.ndim == 2)
    adapters = sum(p.numel() for name, p in named.items() if "lora_" in name)
    num_tokens = sum(len(example.ids_T) for example in examples)
    num_targets = sum(int(example.is_target_T.sum()) for example in examples)
    pairs = sum(len(example.ids_T) ** 2 for example in examples) / 2
    # Two products forward, four backward, two for the recomputation; 2 operations a multiplication.
    attention = 8 * 2 * pairs * config.hidden_size * config.num_hidden_layers / num_tokens
    head = 4 * config.vocab_size * config.hidden_size * num_targets / num_tokens
    return 4 * body + 6 * adapters + head + attention


def measure_peak(dtype: torch.dtype) -> float:
    """Operations a second of a large product on this machine's cores, in the precision of training: best of ten."""
    a, b = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
    times: list[float] = []
    for _ in range(10):
        started = time.perf_counter()
        for _ in range(10):
            torch.mm(a, b)
        times.append(time.perf_counter() - started)
    return 10 * 2 * 2048**3 / min(times)


def parse() -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "data", "heldout", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--seconds", type=float)
    length.add_argument("--rows", type=int)
    parser.add_argument("--tokens-per-batch", type=int, default=4096)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
