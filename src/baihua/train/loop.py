"""The training loop.

Order and dropout are functions of seed, step and process, so a run that was interrupted ends with the same weights, bit
for bit, as one that was not. Accelerate finds the device and joins the processes; precision is our own `autocast` in
`TargetLoss`, because Accelerate fixes it once per process, and a recipe may train twice.
"""

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from baihua.core.artifact import hash_json
from baihua.core.config import identifying
from baihua.core.log import MetricsFile, logger, progress_bar
from baihua.core.stopping import StopRequest
from baihua.core.system import release_memory
from baihua.model.examples import Example
from baihua.train import guard
from baihua.train.checkpoint import Checkpoints, Progress
from baihua.train.examples.batches import iterate_rows
from baihua.train.layers.attention import use_document_attention
from baihua.train.layers.loss import TargetLoss, causal_model
from baihua.train.methods import find_method
from baihua.train.metrics import open_trackers, progress_line, step_figures, summary_figures
from baihua.train.parallel import consolidate, distribute, explained_loss
from baihua.train.plan.plan import Plan
from baihua.train.step import StepResult, TrainingSession, evaluate, make_optimizer, set_rate, take_step

METRICS, CHECKPOINTS = "metrics.jsonl", "checkpoints"


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """Figures for the manifest, and the trained weights, whole, on the main process."""

    figures: dict[str, Any]
    state: dict[str, Tensor] = field(repr=False)


def train(
    model: nn.Module, examples: Sequence[Example], *, heldout: Sequence[Example] = (), out: Path, plan: Plan
) -> TrainingResult:
    """Train in place what is trainable in a model.

    Keeps `metrics.jsonl` and checkpoints in `out` and continues from the newest of them; the caller removes the
    checkpoints once the result is saved. SIGTERM and Ctrl-C save a checkpoint, then raise KeyboardInterrupt.
    """
    session = _open_session(model, examples, out, plan)
    config, accelerator, is_main = plan.config, session.accelerator, session.accelerator.is_main_process
    progress = session.checkpoints.restore(session.trained, session.optimizer)
    lengths = [len(example.ids_T) for example in examples]
    with (
        torch.random.fork_rng(devices=[]),
        explained_loss(),
        guard.explained_memory(plan.num_tokens_per_batch),
        open_trackers(config.running.trackers if is_main else (), out, config.model_dump()) as track,
        StopRequest() as stop,
        progress_bar("training", plan.num_steps, done=progress.step, is_shown=is_main) as bar,
    ):
        metrics = MetricsFile(out / METRICS)
        if is_main:
            out.mkdir(parents=True, exist_ok=True)
            # Steps after the checkpoint are repeated, and so is a final evaluation, whose line has no loss.
            metrics.keep_until(progress.step, with_key="loss")
        if progress.step:
            logger.info("resumed at step %d", progress.step)
        for rows in iterate_rows(lengths, config, first=progress.step, num_steps=plan.num_steps):
            rate = plan.rate_at(progress.step)
            set_rate(session.optimizer, rate)
            # Dropout depends on seed, step and process alone.
            seed = f"{config.seed}-{progress.step}-{accelerator.process_index}"
            torch.manual_seed(random.Random(seed).getrandbits(63))
            batches = session.make_batches(examples, rows)
            step = take_step(session, batches, recent=progress.recent, number=progress.step + 1)
            progress = _advance(progress, step)
            figures = step_figures(step, progress, rate=rate)
            if heldout and config.checkpoints.eval_steps and progress.step % config.checkpoints.eval_steps == 0:
                figures["eval_bits_per_char"] = evaluate(session, heldout)
                progress = _save_if_best(session, progress, figures["eval_bits_per_char"])
            if is_main:
                metrics.write(**figures)
                track(figures, progress.step)
            guard.check_spikes(progress.num_spikes, step.loss, progress.recent, progress.step)
            _save_if_due(session, progress, is_stop_requested=stop.is_requested)
            bar.advance(figures=progress_line(step))
        final = _evaluate_result(session, heldout, progress) if heldout else {}
        if final and is_main:
            metrics.write(step=progress.step, **final)
    state = consolidate(session.trained, is_main=is_main)
    return TrainingResult(summary_figures(progress) | final | {"num_processes": accelerator.num_processes}, state)


def open_accelerator() -> Accelerator:
    """The device and the processes; without `cpu` Accelerate ignores torchrun where there is no GPU."""
    return Accelerator(cpu=not torch.accelerator.is_available())


def remove_checkpoints(out: Path) -> None:
    """Delete the checkpoints of a training whose result is saved."""
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)


def _open_session(model: nn.Module, examples: Sequence[Example], out: Path, plan: Plan) -> TrainingSession:
    """Model with loss, optimizer and checkpoints, ready for the first step."""
    accelerator, config, method = open_accelerator(), plan.config, find_method(plan.config.method.kind)
    loss_of = _with_loss(model, accelerator, plan)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = make_optimizer(trained, config, lambda name: method.rate_factor(name, config.method))
    # What must be equal for a checkpoint to be continued; not the number of processes nor the size of batches.
    settings = [identifying(config), plan.num_steps, plan.precision]
    rows = [[example.row_id, len(example.ids_T), int(example.is_target_T.sum())] for example in examples]
    shapes = {name: list(parameter.shape) for name, parameter in trained.items()}
    run_id = hash_json({"settings": settings, "rows": rows, "weights": shapes})
    process, num_processes, wait = accelerator.process_index, accelerator.num_processes, accelerator.wait_for_everyone
    is_sharded = config.running.parallel == "fsdp"
    checkpoints = Checkpoints(out / CHECKPOINTS, run_id, process, num_processes, is_sharded=is_sharded, wait=wait)
    return TrainingSession(plan, accelerator, loss_of, trained, optimizer, checkpoints)


def _with_loss(model: nn.Module, accelerator: Accelerator, plan: Plan) -> nn.Module:
    """The model with its loss, attending within documents, wrapped for all processes."""
    causal = causal_model(model)
    use_document_attention(causal)
    layers = causal.get_decoder().layers
    assert isinstance(layers, nn.ModuleList), "every decoder of transformers has a list of layers"
    if plan.recomputes:
        causal.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    if plan.config.running.compile:
        for layer in layers:
            layer.compile(dynamic=True)
    loss_of, kind = TargetLoss(model, precision=plan.precision), plan.config.running.parallel
    return distribute(loss_of, layers, kind=kind, accelerator=accelerator, precision=plan.precision)


def _advance(progress: Progress, step: StepResult) -> Progress:
    return replace(
        progress,
        step=progress.step + 1,
        num_tokens=progress.num_tokens + step.num_tokens,
        num_target_tokens=progress.num_target_tokens + step.num_target_tokens,
        num_chars=progress.num_chars + step.num_chars,
        seconds=progress.seconds + step.seconds,
        recent=progress.recent if step.is_skipped else (*progress.recent, step.loss)[-guard.NUM_REMEMBERED :],
        num_spikes=progress.num_spikes + 1 if step.is_skipped else 0,
    )


def _save_if_best(session: TrainingSession, progress: Progress, bits: float) -> Progress:
    """Save the weights if `keep_best` is set and no earlier evaluation was better."""
    best = progress.best_bits_per_char
    if not session.plan.config.checkpoints.keep_best or (best is not None and best <= bits):
        return progress
    session.checkpoints.save_best(progress.step, session.trained)
    return replace(progress, best_step=progress.step, best_bits_per_char=bits)


def _save_if_due(session: TrainingSession, progress: Progress, *, is_stop_requested: bool) -> None:
    """A checkpoint at the last step and every `save_steps`; KeyboardInterrupt after it if any process is to stop."""
    is_last = progress.step == session.plan.num_steps
    # All processes must save together.
    requests = torch.tensor(float(is_stop_requested), device=session.accelerator.device)
    is_stopping = not is_last and session.sum(requests).item() > 0
    if is_stopping or is_last or progress.step % session.plan.config.checkpoints.save_steps == 0:
        # Otherwise reading back what was written would add to the heap's holes from the steps before.
        release_memory()
        session.checkpoints.save(progress, session.trained, session.optimizer)
    if is_stopping:
        raise KeyboardInterrupt


def _evaluate_result(session: TrainingSession, heldout: Sequence[Example], progress: Progress) -> dict[str, Any]:
    """Evaluate the last weights; with `keep_best`, better earlier ones are restored and take their place."""
    bits, best, best_step = evaluate(session, heldout), progress.best_bits_per_char, progress.best_step
    found: dict[str, Any] = {"eval_bits_per_char": bits}
    if session.plan.config.checkpoints.keep_best:
        found["best_step"] = progress.step
    is_worse = best is not None and best < bits
    if is_worse and best_step is not None and session.checkpoints.restore_best(best_step, session.trained):
        logger.info("step %d was better on held-out data than the last: %.4f bits per character", best_step, best)
        found = {"eval_bits_per_char": evaluate(session, heldout), "best_step": best_step}
    return found
