"""The one training loop.

Order and dropout are functions of seed, step and process, so a run that was interrupted ends with the
same weights, bit for bit, as one that was not. Accelerate finds the device and joins the processes;
precision is our own `autocast` in `TargetLoss`, because Accelerate fixes it once for a whole process,
and a recipe may train twice.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from baihua.core.log import progress_bar
from baihua.core.stopping import StopRequest
from baihua.model.examples import Example
from baihua.train import guard, optimizer
from baihua.train.checkpoint import Progress
from baihua.train.layers.attention import use_document_attention
from baihua.train.layers.loss import TargetLoss, causal_model
from baihua.train.metrics import Trackers
from baihua.train.parallel import sharding
from baihua.train.parallel.processes import explained_loss
from baihua.train.settings import Execution, Settings
from baihua.train.step import StepResult
from baihua.train.work import CHECKPOINTS, Work


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What training leaves: figures named as in the design, and the trained weights, whole, on the main process."""

    figures: dict[str, Any]
    state: dict[str, Tensor] = field(repr=False)


def train(
    model: nn.Module,
    examples: Sequence[Example],
    *,
    heldout: Sequence[Example] = (),
    out: Path,
    settings: Settings,
    execution: Execution,
    rate_factor: Callable[[str], float] = lambda name: 1.0,
) -> TrainingResult:
    """Train in place what is trainable in a model.

    Keeps `metrics.jsonl` and checkpoints in `out` and goes on from the newest of them; the caller removes
    the checkpoints once the result is saved. SIGTERM and Ctrl-C save, then raise KeyboardInterrupt.
    """
    accelerator = open_accelerator()
    loss_of = _prepare(model, accelerator, settings, execution)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    updates = optimizer.make_optimizer(
        trained,
        kind=settings.optimizer_kind,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        rate_factor=rate_factor,
    )
    work = Work(accelerator, loss_of, trained, updates, examples, heldout, out, settings, execution)
    progress = work.checkpoints.restore(trained, updates)
    with (
        torch.random.fork_rng(devices=[]),
        explained_loss(),
        guard.explained_memory(execution.num_tokens_per_batch),
        Trackers(execution.trackers, out, asdict(settings), is_main=work.is_main) as trackers,
        StopRequest() as stop,
        progress_bar("training", settings.num_steps, done=progress.step, is_shown=work.is_main) as bar,
    ):
        work.open_metrics(progress.step)
        for rows in work.iterate_rows(progress.step):
            step, rate = work.take_step(rows, progress)
            progress = _advance(progress, step)
            figures = _figures(step, progress) | {"learning_rate": rate}
            if heldout and settings.eval_steps and progress.step % settings.eval_steps == 0:
                figures["eval_bits_per_char"] = work.measure()
                progress = work.remember_best(progress, figures["eval_bits_per_char"])
            if work.is_main:
                work.metrics.write(**figures)
                trackers.log(figures, progress.step)
            guard.check_spikes(progress.num_spikes, step.loss, progress.recent, progress.step)
            work.save(progress, is_asked_to_stop=stop.is_asked)
            bar.advance(figures=_line(step))
        bits = work.finish(progress)
    state = sharding.consolidate(trained, is_main=work.is_main)
    return TrainingResult(_summary(progress) | bits | {"num_processes": accelerator.num_processes}, state)


def open_accelerator() -> Accelerator:
    """The device and the processes; without the first word Accelerate ignores torchrun where there is no GPU."""
    return Accelerator(cpu=not torch.accelerator.is_available())


def remove_checkpoints(out: Path) -> None:
    """Delete the checkpoints of a run whose result is saved."""
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)


def _prepare(model: nn.Module, accelerator: Accelerator, settings: Settings, execution: Execution) -> nn.Module:
    """The model with its loss, attending within documents, wrapped for all processes."""
    causal = causal_model(model)
    use_document_attention(causal)
    layers = causal.get_decoder().layers
    assert isinstance(layers, nn.ModuleList), "every decoder of transformers has a list of layers"
    if execution.uses_checkpointing:
        causal.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    if execution.compiles:
        for layer in layers:
            layer.compile(dynamic=True)
    loss_of = TargetLoss(model, precision=settings.precision)
    return sharding.distribute(
        loss_of, layers, kind=execution.parallel, accelerator=accelerator, precision=settings.precision
    )


def _advance(progress: Progress, step: StepResult) -> Progress:
    recent = progress.recent if step.is_skipped else (*progress.recent, step.loss)[-guard.NUM_REMEMBERED :]
    return replace(
        progress,
        step=progress.step + 1,
        num_tokens=progress.num_tokens + step.num_tokens,
        num_target_tokens=progress.num_target_tokens + step.num_target_tokens,
        num_chars=progress.num_chars + step.num_chars,
        seconds=progress.seconds + step.seconds,
        recent=recent,
        num_spikes=progress.num_spikes + 1 if step.is_skipped else 0,
    )


def _figures(step: StepResult, progress: Progress) -> dict[str, float | int]:
    figures: dict[str, float | int] = {
        "step": progress.step,
        "loss": step.loss,
        "grad_norm": step.grad_norm,
        "num_tokens": progress.num_tokens,
        "tokens_per_second": step.num_tokens / step.seconds,
        "chars_per_second": step.num_chars / step.seconds,
    }
    return figures | ({"is_skipped": True} if step.is_skipped else {})


def _line(step: StepResult) -> str:
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
