"""Training on one CUDA card with random weights of true shape, beside plain transformers and PEFT in the same run.

Usage: python bench/train/gpu.py [--only NAME ...] [--seconds 60] [--long 320] [--tokens-per-batch 16384] [--compile]

Cases: 7B LoRA in bfloat16, 8 bits and 4 bits, 1.1B with every weight, 30B in 4 bits. For each: tokens/s, share of the
card's dense bfloat16 peak without and with what checkpointing computes again, peak memory; then the same rows through
a plain loop (padded batches, all logits). `7b-lora` runs for at least `--long` seconds, from which the time of 52,000
English Alpaca rows, three times over, is extrapolated. Rows have lengths like English Alpaca's in its own template
(118 tokens on average, a few above 500), 40 % of them targets. Without a card every case runs with two small layers
on the CPU, to show that the script works; its figures mean nothing.

B rows, T tokens.
"""

# ruff: noqa: N806  (names of tensors end with their shape)

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from baihua.core.system import release_memory
from baihua.model.examples import Example, TextSize
from baihua.train.config import TrainingConfig
from baihua.train.loop import METRICS, train
from baihua.train.methods import full, lora
from baihua.train.plan.device import peak_memory_bytes
from baihua.train.plan.plan import Plan

IS_CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if IS_CUDA else "cpu")
# Dense bfloat16 operations a second by the makers' data sheets.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "A800": 312e12, "4090": 165e12}
NUM_ALPACA_ROWS, NUM_EPOCHS = 52_002, 3
MEAN_LENGTH, LONGEST = 118, 512
NUM_ROWS_PER_STEP = 128


@dataclass(frozen=True, slots=True)
class Case:
    """A model's shape and how it is trained."""

    name: str
    hidden: int
    inner: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    how: str
    """`lora`, `full`, `int8` or `nf4`: how the frozen weights are held, or that none are frozen."""

    @property
    def config(self) -> LlamaConfig:
        """The true shape, or on a CPU two layers of 64."""
        case = self if IS_CUDA else replace(self, hidden=64, inner=160, num_layers=2, num_heads=4, num_kv_heads=2)
        return LlamaConfig(
            vocab_size=32_000,
            hidden_size=case.hidden,
            intermediate_size=case.inner,
            num_hidden_layers=case.num_layers,
            num_attention_heads=case.num_heads,
            num_key_value_heads=case.num_kv_heads,
            max_position_embeddings=4096,
        )


# Llama 1 and 2 7B, TinyLlama 1.1B, Llama 1 30B.
CASES = (
    Case("7b-lora", 4096, 11008, 32, 32, 32, "lora"),
    Case("7b-int8", 4096, 11008, 32, 32, 32, "int8"),
    Case("7b-nf4", 4096, 11008, 32, 32, 32, "nf4"),
    Case("1.1b-full", 2048, 5632, 22, 32, 4, "full"),
    Case("30b-nf4", 6656, 17920, 60, 52, 52, "nf4"),
)


def main() -> int:
    """Run the cases, one line of JSON each, then the extrapolation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--seconds", type=float, default=60 if IS_CUDA else 3)
    parser.add_argument("--long", type=float, default=320 if IS_CUDA else 3)
    parser.add_argument("--tokens-per-batch", type=int, default=16_384 if IS_CUDA else 1024)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--no-checkpointing", action="store_true")
    arguments = parser.parse_args()
    print(f"device: {torch.cuda.get_device_name() if IS_CUDA else 'CPU, tiny variant'}; torch {torch.__version__}")
    examples = make_rows(4096 if IS_CUDA else 256)
    for case in CASES:
        if arguments.only and case.name not in arguments.only:
            continue
        seconds = arguments.long if case.name == "7b-lora" else arguments.seconds
        ours = measure_ours(case, examples, seconds, arguments)
        free()
        plain = measure_plain(case, examples, min(seconds, arguments.seconds))
        free()
        print(json.dumps({"case": case.name} | ours | {"plain": plain}), flush=True)
        if case.name == "7b-lora":
            num_tokens = NUM_ALPACA_ROWS * NUM_EPOCHS * statistics.fmean(len(e.ids_T) for e in examples)
            minutes = num_tokens / ours["tokens_per_second"] / 60
            print(f"52K rows x 3 epochs, extrapolated from {seconds:.0f} s: {minutes:.1f} minutes", flush=True)
    return 0


def make_rows(num_rows: int) -> list[Example]:
    """Rows of random ids; lengths are lognormal like English Alpaca's."""
    rng, ids = random.Random(0), np.random.default_rng(0)
    rows: list[Example] = []
    for number in range(num_rows):
        length = min(LONGEST, max(40, int(rng.lognormvariate(4.65, 0.5))))
        is_target = np.zeros(length, dtype=bool)
        is_target[int(0.6 * length) :] = True
        size = TextSize(length * 4, length * 4)
        rows.append(Example(str(number), ids.integers(3, 32_000, length, dtype=np.int32), is_target, size, size))
    return rows


def measure_ours(
    case: Case, examples: Sequence[Example], seconds: float, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Baihua's loop for about so long."""
    model = make_model(case)
    trained: nn.Module = (
        full.prepare(model, full.Config()) if case.how == "full" else lora.prepare(model, lora.Config())
    )
    plan = Plan(
        config=TrainingConfig.model_validate(
            {
                "learning_rate": 1e-4,
                "batches": {"num_rows_per_step": NUM_ROWS_PER_STEP if IS_CUDA else 16},
                "schedule": {"kind": "constant", "warmup_ratio": 0},
                "checkpoints": {"save_steps": 10**9},
                "running": {"compile": arguments.compile},
            }
        ),
        num_steps=4,
        num_tokens_per_batch=arguments.tokens_per_batch,
        precision="bfloat16",
        recomputes=not arguments.no_checkpointing,
    )
    reset_peak()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        train(trained, examples, out=out / "warm", plan=plan)
        # Of the first four steps the last two are warm.
        rate = statistics.fmean(read_rates(out / "warm")[2:])
        mean = statistics.fmean(len(example.ids_T) for example in examples)
        num_steps = max(4, int(seconds * rate / (mean * plan.config.batches.num_rows_per_step)))
        train(trained, examples, out=out / "long", plan=replace(plan, num_steps=num_steps))
        rates = read_rates(out / "long")[1:]
    found = statistics.harmonic_mean(rates)
    figures = {"tokens_per_second": found, "num_steps": num_steps, "peak_memory_bytes": peak_memory_bytes()}
    figures |= shares(trained, examples, found, is_recomputed=plan.recomputes)
    return figures


def measure_plain(case: Case, examples: Sequence[Example], seconds: float) -> dict[str, Any] | str:
    """Plain transformers and PEFT: padded batches of 8 rows, all logits, checkpointing, a fused AdamW."""
    model = make_model(case)
    reset_peak()
    if case.how == "full":
        trained: nn.Module = model
    else:
        wanted = peft.LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules=list(lora.LINEARS))
        trained = peft.get_peft_model(model, wanted)
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW([p for p in trained.parameters() if p.requires_grad], lr=1e-4, fused=True)
    trained.train()
    num_tokens, started, is_warm = 0, time.monotonic(), False
    try:
        for rows in forever(examples, 8):
            ids_BT, labels_BT, mask_BT = pad(rows)
            with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
                loss = trained(input_ids=ids_BT, labels=labels_BT, attention_mask=mask_BT, use_cache=False).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
            num_tokens += int(mask_BT.sum())
            if not is_warm and time.monotonic() - started > seconds / 4:
                num_tokens, started, is_warm = 0, time.monotonic(), True
            if is_warm and time.monotonic() - started > seconds:
                break
        found: dict[str, Any] | str = {
            "tokens_per_second": num_tokens / (time.monotonic() - started),
            "peak_memory_bytes": peak_memory_bytes(),
        }
    except torch.OutOfMemoryError as error:
        found = f"out of memory: {str(error).splitlines()[0]}"
    return found


def make_model(case: Case) -> LlamaForCausalLM:
    """Random weights, made on the device, quantized layer by layer where the case says so."""
    dtype = torch.float32 if case.how == "full" else torch.bfloat16
    if case.how in ("lora", "full"):
        with torch.device(DEVICE):
            return LlamaForCausalLM._from_config(case.config, dtype=dtype)
    import bitsandbytes as bnb

    with torch.device("meta"):
        model = LlamaForCausalLM._from_config(case.config, dtype=dtype)
    for parent in list(model.model.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, nn.Linear):
                weight = torch.randn(module.weight.shape, dtype=dtype) * 0.02
                parent.add_module(name, quantized(bnb, weight, case.how).to(DEVICE))
    # What is left on no device: embeddings, norms, head, and the frequencies of the positions.
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_meta:
                value = torch.ones(parameter.shape) if parameter.ndim == 1 else torch.randn(parameter.shape) * 0.02
                module.register_parameter(name, nn.Parameter(value.to(DEVICE, dtype)))
    model.model.rotary_emb = type(model.model.rotary_emb)(case.config).to(DEVICE)
    return model


def quantized(bnb: Any, weight: torch.Tensor, how: str) -> nn.Module:
    """A frozen layer in 8 or 4 bits."""
    num_outputs, num_inputs = weight.shape
    if how == "int8":
        layer = bnb.nn.Linear8bitLt(num_inputs, num_outputs, bias=False, has_fp16_weights=False, threshold=6.0)
        layer.weight = bnb.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
        return layer
    layer = bnb.nn.Linear4bit(
        num_inputs, num_outputs, bias=False, compute_dtype=torch.bfloat16, compress_statistics=True, quant_type="nf4"
    )
    layer.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4", compress_statistics=True)
    return layer


def shares(model: nn.Module, examples: Sequence[Example], rate: float, *, is_recomputed: bool) -> dict[str, float]:
    """The share of the card's peak: operations that training needs, and with those that checkpointing repeats."""
    peak = next((value for name, value in PEAKS.items() if IS_CUDA and name in torch.cuda.get_device_name()), None)
    if peak is None:
        return {}
    shape: Any = model.config
    kv = shape.num_key_value_heads * shape.hidden_size // shape.num_attention_heads
    layer = 2 * shape.hidden_size**2 + 2 * shape.hidden_size * kv + 3 * shape.hidden_size * shape.intermediate_size
    body, head = layer * shape.num_hidden_layers, shape.vocab_size * shape.hidden_size
    target_share = statistics.fmean(example.is_target_T.mean() for example in examples)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # 2 forward, 2 to the inputs, and 2 to each trained weight.
    needed = 4 * body + 4 * head * target_share + (2 * trained if trained > body else 6 * trained)
    return {
        "share_of_peak": rate * needed / peak,
        "share_of_peak_with_recomputation": rate * (needed + 2 * body * is_recomputed) / peak,
    }


def read_rates(out: Path) -> list[float]:
    """Tokens per second of each step."""
    return [json.loads(line)["tokens_per_second"] for line in (out / METRICS).read_text(encoding="utf-8").splitlines()]


def forever(examples: Sequence[Example], num_rows: int) -> Iterator[list[Example]]:
    """Batches of random rows."""
    rng = random.Random(1)
    while True:
        yield rng.sample(examples, num_rows)


def pad(rows: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, labels and mask of a batch, padded on the right."""
    length = max(len(row.ids_T) for row in rows)
    ids, labels = torch.zeros(len(rows), length, dtype=torch.long), torch.full((len(rows), length), -100)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for number, row in enumerate(rows):
        row_ids = torch.from_numpy(row.ids_T).long()
        ids[number, : len(row_ids)], mask[number, : len(row_ids)] = row_ids, 1
        labels[number, : len(row_ids)] = torch.where(torch.from_numpy(row.is_target_T), row_ids, -100)
    return ids.to(DEVICE), labels.to(DEVICE), mask.to(DEVICE)


def reset_peak() -> None:
    """Forget the peak of what ran before."""
    if IS_CUDA:
        torch.cuda.reset_peak_memory_stats()


def free() -> None:
    """Give back the memory of what no name holds any more."""
    release_memory()
    if IS_CUDA:
        torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main())
