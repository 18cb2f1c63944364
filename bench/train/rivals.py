"""How fast, and to what end, do other tools train the same LoRA on the same rows? One tool a run, its own process.

Usage: python bench/train/rivals.py TOOL --model DIR --data train.jsonl --heldout heldout.jsonl --out FILE.json
       (--seconds N | --rows N) [--settings JSON]

TOOL is `trainer` (transformers' Trainer and PEFT as alpaca-lora has them: float32, padded, dropout 0.05),
`trainer_bf16` (the same under bfloat16 autocast), `trl`, `trl_compiled` or `llamafactory` (the best settings found
for a CPU). With --seconds training stops after that time, of which two first steps are no part; with --rows it is one
pass over that many rows, and the loss on the held-out ones follows. --settings replaces some of a tool's settings.
`bench/train/rows.py` makes the two files. Rates count real tokens, no padding.

The two trainers and TRL:  pip install torch==2.13.0 transformers==5.23.0 peft==0.21.2 accelerate==1.15.0
                           trl==1.16.0 datasets==5.2.0
LLaMA-Factory, which wants older ones and so its own environment:  pip install llamafactory==0.9.5  (it takes
                           transformers==5.6.0 peft==0.18.1 accelerate==1.11.0 trl==0.24.0 datasets==4.0.0
                           torch==2.14.1 torchvision==0.29.1 torchaudio==2.11.0; the last two, as the index has
                           them, do not load beside a torch built for CPUs alone)

B rows, T tokens.
"""

# Two of the tools are no part of our environment, and Trainer's arguments are made from a dictionary.
# pyright: reportMissingImports=false, reportArgumentType=false
# ruff: noqa: N803, N806  (names of tensors end with their shape)

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import peft
import torch
import transformers
from rows import IGNORED, Encoded, Row, count_chars, encode, measure, read_rows

NUM_THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))  # one each, where two of these run side by side
NUM_ROWS_PER_STEP = 16
NUM_ROWS_PER_BATCH = 4
NUM_WARMUP_STEPS = 2
MAX_LENGTH = 512
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PACKAGES = ("torch", "transformers", "peft", "accelerate")


@dataclass(frozen=True, slots=True)
class Task:
    """What to train on, and for how long."""

    model: Path
    rows: list[Row]
    train: list[Encoded]
    out: Path
    """A folder for whatever a tool writes."""
    is_timed: bool
    settings: dict[str, Any]
    """What replaces a tool's own settings."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read up to a moment, and when that was."""

    num_steps: int = 0
    num_tokens: int = 0
    num_target_tokens: int = 0
    num_chars: int = 0
    num_positions: int = 0
    """Tokens with padding."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0


class Watch(transformers.TrainerCallback):
    """Counts what a model reads, and stops its training after a time."""

    def __init__(self, num_chars: list[int], seconds: float | None) -> None:
        self.num_chars = torch.tensor(num_chars)
        self.seconds = seconds or math.inf
        self.model: Any = None
        self.seen = self.warm = self.last = Seen()
        self.rates: list[float] = []
        self.losses: list[float] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at each batch that the model is given."""
        self.model = kwargs["model"]
        self.model.register_forward_pre_hook(torch.compiler.disable(self.count), with_kwargs=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock after the first steps, and stop when it is time."""
        now = {"seconds": time.monotonic(), "cpu_seconds": time.process_time()}
        self.seen = replace(self.seen, num_steps=state.global_step, **now)
        self.rates.append((self.seen.num_tokens - self.last.num_tokens) / (now["seconds"] - self.last.seconds))
        self.last = self.seen
        if state.global_step == NUM_WARMUP_STEPS:
            self.warm = self.seen
        is_warm = state.global_step > NUM_WARMUP_STEPS
        control.should_training_stop |= is_warm and self.seen.seconds - self.warm.seconds >= self.seconds

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the loss that a tool itself reports."""
        self.losses += [kwargs["logs"]["loss"]] if "loss" in kwargs["logs"] else []

    def count(self, _model: Any, _args: Any, batch: dict[str, Any]) -> None:
        """Add a batch; a model in training only."""
        if not self.model.training:
            return
        ids_BT = batch["input_ids"]
        is_real_BT = find_real(ids_BT, batch.get("attention_mask"))
        self.seen = replace(
            self.seen,
            num_tokens=self.seen.num_tokens + int(is_real_BT.sum()),
            num_target_tokens=self.seen.num_target_tokens + int((batch["labels"][:, 1:] != IGNORED).sum()),
            num_chars=self.seen.num_chars + int(self.num_chars[ids_BT[is_real_BT]].sum()),
            num_positions=self.seen.num_positions + ids_BT.numel(),
        )

    def summarize(self) -> dict[str, Any]:
        """Rates of the steps after the first ones, and counts of them and of all steps."""
        before, after = asdict(self.warm), asdict(self.seen)
        timed = {name: after[name] - before[name] for name in after}
        whole = {name: value for name, value in after.items() if "seconds" not in name}
        return {
            "tokens_per_second": timed["num_tokens"] / timed["seconds"],
            "tokens_per_cpu_second": timed["num_tokens"] * NUM_THREADS / timed["cpu_seconds"],
            "chars_per_second": timed["num_chars"] / timed["seconds"],
            "tokens_per_second_of_best_step": max(self.rates[NUM_WARMUP_STEPS:]),
            "timed": timed,
            "all": whole,
            "peak_memory_bytes": peak_memory_bytes(),
            "last_losses": self.losses[-5:],
        }


def find_real(ids_BT: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Which positions are no padding; without a mask all, with one per pair those that see themselves."""
    if mask is None:
        return torch.ones_like(ids_BT, dtype=torch.bool)
    return mask.diagonal(dim1=-2, dim2=-1)[:, 0] == 0 if mask.dim() == 4 else mask != 0


def peak_memory_bytes() -> int:
    """The most memory that this process held. Linux only; `ru_maxrss` would begin with that of a large parent."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def train_trainer(task: Task, watch: Watch) -> None:
    """Trainer and PEFT as alpaca-lora has them."""
    model = peft.get_peft_model(load(task.model, torch.float32), lora(dropout=0.05))
    tokenizer = transformers.AutoTokenizer.from_pretrained(task.model)
    settings = common(task) | padded(NUM_ROWS_PER_BATCH) | task.settings
    trainer = transformers.Trainer(
        model,
        transformers.TrainingArguments(**settings),
        data_collator=transformers.DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=8, padding=True),
        train_dataset=[{"input_ids": row.ids, "labels": row.labels} for row in task.train],
        callbacks=[watch],
    )
    trainer.train()


def train_trainer_bf16(task: Task, watch: Watch) -> None:
    """The same under bfloat16 autocast."""
    train_trainer(replace(task, settings={"bf16": True} | task.settings), watch)


def train_trl(task: Task, watch: Watch) -> None:
    """TRL's SFTTrainer. `weights` is the dtype of the frozen ones; the adapter is float32 as PEFT makes it."""
    import datasets
    import trl

    best = {"packing": True, "packing_strategy": "wrapped", "max_length": MAX_LENGTH, "bf16": True, "batch": 3}
    settings = best | {"weights": "bfloat16", "attention": "sdpa", "dropout": 0.0} | task.settings
    model = load(task.model, getattr(torch, settings.pop("weights")), attention=settings.pop("attention"))
    dropout, batch = settings.pop("dropout"), settings.pop("batch")
    sizes = packed(task, batch, settings["max_length"]) if settings["packing"] else padded(batch)
    trainer = trl.SFTTrainer(
        model,
        trl.SFTConfig(**common(task) | sizes | {"gradient_checkpointing": False} | settings),
        # Rows come as tokens with labels, so that all tools learn the same targets.
        train_dataset=datasets.Dataset.from_list([{"input_ids": row.ids, "labels": row.labels} for row in task.train]),
        processing_class=transformers.AutoTokenizer.from_pretrained(task.model),
        peft_config=lora(dropout=dropout),
        callbacks=[watch],
    )
    trainer.train()


def train_trl_compiled(task: Task, watch: Watch) -> None:
    """The same compiled by torch; the first steps, which are not timed, then take a minute or more."""
    train_trl(replace(task, settings={"torch_compile": True} | task.settings), watch)


def train_llamafactory(task: Task, watch: Watch) -> None:
    """LLaMA-Factory by its own reading and template; it also trains the line break after each answer."""
    from llamafactory.train.tuner import run_exp

    (task.out / "rows.json").write_text(json.dumps(task.rows), encoding="utf-8")
    (task.out / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.json"}}), encoding="utf-8")
    best = {"neat_packing": True, "cutoff_len": MAX_LENGTH, "bf16": True, "batch": 3, "lora_dropout": 0.0}
    settings = best | task.settings
    batch = settings.pop("batch")
    sizes = packed(task, batch, settings["cutoff_len"]) if settings["neat_packing"] else padded(batch)
    data = {"dataset": "rows", "dataset_dir": str(task.out), "template": "chatml", "preprocessing_num_workers": 1}
    adapter = {"finetuning_type": "lora", "lora_rank": 8, "lora_alpha": 16, "lora_target": ",".join(LINEARS)}
    about = {"model_name_or_path": str(task.model), "stage": "sft", "do_train": True, "overwrite_cache": True}
    speed = {"disable_gradient_checkpointing": True, "use_cache": False}
    run_exp(about | data | adapter | speed | common(task) | sizes | settings, callbacks=[watch])


TOOLS: dict[str, Callable[[Task, Watch], None]] = {
    "trainer": train_trainer,
    "trainer_bf16": train_trainer_bf16,
    "trl": train_trl,
    "trl_compiled": train_trl_compiled,
    "llamafactory": train_llamafactory,
}


def load(folder: Path, dtype: torch.dtype, *, attention: str = "sdpa") -> Any:
    """The base model."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=attention)


def lora(*, dropout: float) -> peft.LoraConfig:
    """The matrices that all tools train."""
    return peft.LoraConfig(
        task_type=peft.TaskType.CAUSAL_LM, r=8, lora_alpha=16, lora_dropout=dropout, target_modules=list(LINEARS)
    )


def common(task: Task) -> dict[str, Any]:
    """The settings that all tools share. A timed run has no last step, and its learning rate does not matter."""
    return {
        "output_dir": str(task.out),
        "use_cpu": True,
        "learning_rate": 2e-4,
        "lr_scheduler_type": "cosine",
        # A share of all steps.
        "warmup_steps": 0.03,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "seed": 0,
        **({"max_steps": 100_000} if task.is_timed else {"num_train_epochs": 1}),
        "save_strategy": "no",
        "logging_steps": 10,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def padded(num_rows: int) -> dict[str, int]:
    """A step of rows in batches of so many."""
    return {"per_device_train_batch_size": num_rows, "gradient_accumulation_steps": NUM_ROWS_PER_STEP // num_rows}


def packed(task: Task, num_blocks: int, block: int) -> dict[str, int]:
    """A step of about as many tokens as its rows have, in batches of so many blocks."""
    num_tokens = NUM_ROWS_PER_STEP * sum(len(row.ids) for row in task.train) / len(task.train)
    num_batches = max(1, round(num_tokens / (block * num_blocks)))
    return {"per_device_train_batch_size": num_blocks, "gradient_accumulation_steps": num_batches}


def parse() -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", choices=TOOLS)
    for name in ("model", "data", "heldout", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--seconds", type=float)
    length.add_argument("--rows", type=int)
    parser.add_argument("--settings", type=json.loads, default={})
    return parser.parse_args()


def main() -> int:
    """Train with one tool, and write what was found."""
    arguments = parse()
    torch.set_num_threads(NUM_THREADS)
    transformers.set_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.model)
    rows = read_rows(arguments.data, arguments.rows)
    train = [encode(row, tokenizer, max_length=MAX_LENGTH) for row in rows]
    heldout = [encode(row, tokenizer, max_length=MAX_LENGTH) for row in read_rows(arguments.heldout)]
    num_chars = count_chars(tokenizer)
    watch = Watch(num_chars, arguments.seconds)
    with tempfile.TemporaryDirectory() as folder:
        task = Task(arguments.model, rows, train, Path(folder), arguments.seconds is not None, arguments.settings)
        TOOLS[arguments.tool](task, watch)
    figures: dict[str, Any] = {"tool": arguments.tool, "settings": arguments.settings} | watch.summarize()
    if arguments.rows:
        figures |= measure(watch.model, heldout, num_chars)
    names = PACKAGES + (("trl", "datasets") if arguments.tool.startswith("trl") else ())
    names += ("trl", "datasets", "llamafactory") if arguments.tool == "llamafactory" else ()
    figures["versions"] = {name: version(name) for name in names}
    arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
