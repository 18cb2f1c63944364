"""The one training loop.

Order and dropout are functions of seed, step and process, so a run that was interrupted ends with the
same weights, bit for bit, as one that was not. Accelerate finds the device and joins the processes;
precision is our own `autocast` in `TargetLoss`, because Accelerate fixes it once for a whole process,
and a recipe may train twice.
"""

import functools
import math
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import nn

from baihua.core.artifact import hash_json
from baihua.core.errors import RunError
from baihua.core.log import MetricsFile, logger, progress_bar
from baihua.model.examples import Example
from baihua.model.load import Precision
from baihua.train import schedule
from baihua.train.batches import Batch, Order, collate, iterate_steps
from baihua.train.checkpoint import Checkpoints, Progress
from baihua.train.loss import TargetLoss, bits_per_char

METRICS, CHECKPOINTS = "metrics.jsonl", "checkpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that decides the weights, but for model and data."""

    num_steps: int
    seed: int
    learning_rate: float
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    schedule_kind: schedule.Kind = "cosine"
    num_warmup_steps: int = 0
    num_rows_per_batch: int = 8
    num_batches_per_step: int = 1
    precision: Precision = "float32"


@dataclass(frozen=True, slots=True)
class Step:
    """What one step found and how much it read, over all processes."""

    loss: float
    """Nats per target token."""
    grad_norm: float
    """Length of the gradient before clipping."""
    num_tokens: int
    num_target_tokens: int
    num_chars: int
    seconds: float


def train(
    model: nn.Module,
    examples: Sequence[Example],
    *,
    heldout: Sequence[Example],
    out: Path,
    settings: Settings,
    save_steps: int = 200,
    eval_steps: int = 0,
) -> dict[str, float | int]:
    """Train in place what is trainable in a model; returns figures named as in the design.

    Keeps `metrics.jsonl` and checkpoints in `out` and goes on from the newest of them; the caller removes
    the checkpoints once the result is saved. `eval_steps` 0 measures on `heldout` at the end only.
    """
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    loss_of, optimizer = accelerator.prepare(
        TargetLoss(model, precision=settings.precision), make_optimizer(trained, settings)
    )
    order = make_order(settings, accelerator)
    checkpoints = Checkpoints(out / CHECKPOINTS, run_id=_run_id(settings, order.num_processes, examples, trained))
    progress = checkpoints.restore(trained, optimizer)
    metrics = _open_metrics(out / METRICS, progress.step, accelerator)
    measure = functools.partial(
        evaluate, loss_of, heldout, accelerator=accelerator, num_rows_per_batch=settings.num_rows_per_batch
    )
    steps = iterate_steps(examples, order, first_step=progress.step, num_steps=settings.num_steps)
    with torch.random.fork_rng(devices=[]), progress_bar("training", settings.num_steps, done=progress.step) as bar:
        for batches in steps:
            rate = _begin_step(progress.step, optimizer, settings, process=accelerator.process_index)
            step = take_step(
                loss_of, optimizer, batches, accelerator=accelerator, settings=settings, number=progress.step + 1
            )
            progress = _advance(progress, step)
            figures = _figures(step, progress) | {"learning_rate": rate}
            if heldout and eval_steps and progress.step % eval_steps == 0:
                figures["eval_bits_per_char"] = measure()
            if accelerator.is_main_process:
                metrics.write(**figures)
            if accelerator.is_main_process and (progress.step % save_steps == 0 or progress.step == settings.num_steps):
                checkpoints.save(progress, trained, optimizer)
            bar.advance(figures=_line(step))
    bits = {"eval_bits_per_char": measure()} if heldout else {}
    if bits and accelerator.is_main_process:
        metrics.write(step=progress.step, **bits)
    return _summary(progress) | bits


def remove_checkpoints(out: Path) -> None:
    """Delete the checkpoints of a run whose result is saved."""
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)


def make_optimizer(trained: Mapping[str, nn.Parameter], settings: Settings) -> torch.optim.AdamW:
    """AdamW; weights decay only in matrices, since norms and biases have no reason to be small."""
    matrices = [parameter for parameter in trained.values() if parameter.ndim >= 2]
    others = [parameter for parameter in trained.values() if parameter.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.learning_rate)


def make_order(settings: Settings, accelerator: Accelerator) -> Order:
    """This process's share of the order of rows."""
    return Order(
        seed=settings.seed,
        num_rows_per_batch=settings.num_rows_per_batch,
        num_batches_per_step=settings.num_batches_per_step,
        process=accelerator.process_index,
        num_processes=accelerator.num_processes,
    )


def take_step(
    loss_of: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    *,
    accelerator: Accelerator,
    settings: Settings,
    number: int,
) -> Step:
    """One update from all batches of a step; each target token weighs the same, in whatever batch it is."""
    started = time.monotonic()
    counts = [[len(batch.labels_N), batch.num_tokens, batch.num_chars] for batch in batches]
    total = _sum_over_processes(torch.tensor(counts, device=accelerator.device).sum(dim=0), accelerator)
    num_target_tokens, num_tokens, num_chars = total.tolist()
    nats = torch.zeros((), device=accelerator.device)
    loss_of.train()
    for index, batch in enumerate(batches):
        is_last = index == len(batches) - 1
        with nullcontext() if is_last else accelerator.no_sync(loss_of):
            loss = loss_of(batch.to(accelerator.device))
            _check_finite("loss", loss.item(), number, [batch])
            # Processes average their gradients; times their number, that is the sum.
            accelerator.backward(loss * (accelerator.num_processes / num_target_tokens))
        nats += loss.detach()
    grad_norm = float(accelerator.clip_grad_norm_(loss_of.parameters(), settings.max_grad_norm) or 0.0)
    _check_finite("gradient", grad_norm, number, batches)
    optimizer.step()
    optimizer.zero_grad()
    loss_per_token = _sum_over_processes(nats, accelerator).item() / num_target_tokens
    return Step(loss_per_token, grad_norm, num_tokens, num_target_tokens, num_chars, time.monotonic() - started)


@torch.no_grad()
def evaluate(
    loss_of: nn.Module, examples: Sequence[Example], *, accelerator: Accelerator, num_rows_per_batch: int
) -> float:
    """Bits per character of the answers; ends of turns cost bits but count no characters."""
    loss_of.eval()
    ordered = sorted(examples, key=lambda example: len(example.ids_T))
    batches = [ordered[start : start + num_rows_per_batch] for start in range(0, len(ordered), num_rows_per_batch)]
    nats = torch.zeros((), dtype=torch.float64, device=accelerator.device)
    for rows in batches[accelerator.process_index :: accelerator.num_processes]:
        nats += loss_of(collate(rows).to(accelerator.device))
    total = _sum_over_processes(nats, accelerator).item()
    return bits_per_char(total, sum(example.target_text.num_chars for example in examples))


def _begin_step(step: int, optimizer: torch.optim.Optimizer, settings: Settings, *, process: int) -> float:
    """Seed dropout and set the learning rate; returns the rate."""
    torch.manual_seed(random.Random(f"{settings.seed}-{step}-{process}").getrandbits(63))
    rate = settings.learning_rate * schedule.factor(
        step,
        kind=settings.schedule_kind,
        num_warmup_steps=settings.num_warmup_steps,
        num_steps=settings.num_steps,
    )
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def _check_finite(what: str, value: float, number: int, batches: Sequence[Batch]) -> None:
    if math.isfinite(value):
        return
    rows = [row_id for batch in batches for row_id in batch.row_ids]
    raise RunError(
        f"the {what} became {value} at step {number}; training stopped before it could spoil the weights",
        where=f"rows {', '.join(rows)}",
        fix="lower `learning_rate`, or look at these rows: baihua show DATA",
    )


def _sum_over_processes(tensor: torch.Tensor, accelerator: Accelerator) -> torch.Tensor:
    return cast(torch.Tensor, accelerator.reduce(tensor, reduction="sum"))


def _open_metrics(file: Path, step: int, accelerator: Accelerator) -> MetricsFile:
    metrics = MetricsFile(file)
    if accelerator.is_main_process:
        file.parent.mkdir(parents=True, exist_ok=True)
        metrics.keep_until(step)
    if step:
        logger.info("resumed at step %d", step)
    return metrics


def _run_id(
    settings: Settings, num_processes: int, examples: Sequence[Example], trained: Mapping[str, nn.Parameter]
) -> str:
    """What a checkpoint must agree with to be continued."""
    shapes = {name: list(parameter.shape) for name, parameter in trained.items()}
    rows = [[example.row_id, len(example.ids_T), int(example.is_target_T.sum())] for example in examples]
    return hash_json({"settings": asdict(settings), "num_processes": num_processes, "rows": rows, "weights": shapes})


def _advance(progress: Progress, step: Step) -> Progress:
    return Progress(
        step=progress.step + 1,
        num_tokens=progress.num_tokens + step.num_tokens,
        num_target_tokens=progress.num_target_tokens + step.num_target_tokens,
        num_chars=progress.num_chars + step.num_chars,
        seconds=progress.seconds + step.seconds,
    )


def _figures(step: Step, progress: Progress) -> dict[str, float | int]:
    return {
        "step": progress.step,
        "loss": step.loss,
        "grad_norm": step.grad_norm,
        "num_tokens": progress.num_tokens,
        "tokens_per_second": step.num_tokens / step.seconds,
        "chars_per_second": step.num_chars / step.seconds,
    }


def _line(step: Step) -> str:
    tokens, chars = step.num_tokens / step.seconds, step.num_chars / step.seconds
    return f"loss {step.loss:.3f}  {tokens:,.0f} tokens/s  {chars:,.0f} characters/s"


def _summary(progress: Progress) -> dict[str, float | int]:
    figures: dict[str, float | int] = {
        "num_steps": progress.step,
        "num_tokens": progress.num_tokens,
        "num_target_tokens": progress.num_target_tokens,
    }
    if progress.seconds:
        figures["tokens_per_second"] = progress.num_tokens / progress.seconds
        figures["chars_per_second"] = progress.num_chars / progress.seconds
    return figures
