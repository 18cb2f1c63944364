"""One training on one process: what stays the same from its first step to its last, and what is done with it."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from baihua.core.artifact import hash_json
from baihua.core.log import MetricsFile, logger
from baihua.core.system import release_memory
from baihua.model.examples import Example
from baihua.train import optimizer, schedule
from baihua.train.checkpoint import Checkpoints, ProcessShare, Progress
from baihua.train.examples.batches import iterate_rows, make_batches
from baihua.train.parallel import sharding
from baihua.train.settings import Execution, Settings
from baihua.train.step import StepResult, evaluate, sum_over_processes, take_step

METRICS, CHECKPOINTS = "metrics.jsonl", "checkpoints"


@dataclass(frozen=True)
class Work:
    """What all steps share."""

    accelerator: Accelerator
    loss_of: nn.Module
    trained: Mapping[str, nn.Parameter]
    updates: torch.optim.Optimizer
    examples: Sequence[Example]
    heldout: Sequence[Example]
    out: Path
    settings: Settings
    execution: Execution

    @property
    def is_main(self) -> bool:
        """Whether this process writes what all have in common."""
        return self.accelerator.is_main_process

    @cached_property
    def metrics(self) -> MetricsFile:
        """Figures of every step."""
        return MetricsFile(self.out / METRICS)

    @cached_property
    def checkpoints(self) -> Checkpoints:
        """Where the run can go on from."""
        accelerator = self.accelerator
        share = ProcessShare(
            accelerator.process_index,
            accelerator.num_processes,
            sharding.is_sharded(self.trained),
            accelerator.wait_for_everyone,
        )
        run_id = _run_id(self.settings, self.examples, self.trained)
        return Checkpoints(self.out / CHECKPOINTS, run_id=run_id, share=share)

    def open_metrics(self, step: int) -> None:
        """Forget the lines of steps that will be done again."""
        if self.is_main:
            self.metrics.file.parent.mkdir(parents=True, exist_ok=True)
            # A line without a loss is a last measurement, which is made again.
            self.metrics.keep_until(step, with_key="loss")
        if step:
            logger.info("resumed at step %d", step)

    def iterate_rows(self, first_step: int) -> Iterator[list[int]]:
        """The rows of each step that is still to do."""
        lengths = [len(example.ids_T) for example in self.examples]
        return iterate_rows(lengths, self.settings.order, first_step=first_step, num_steps=self.settings.num_steps)

    def take_step(self, rows: Sequence[int], progress: Progress) -> tuple[StepResult, float]:
        """One update, and the learning rate it was made with; dropout depends on seed, step and process alone."""
        process = self.accelerator.process_index
        torch.manual_seed(random.Random(f"{self.settings.order.seed}-{progress.step}-{process}").getrandbits(63))
        rate = self.settings.learning_rate * schedule.factor(
            progress.step,
            kind=self.settings.schedule_kind,
            num_warmup_steps=self.settings.num_warmup_steps,
            num_steps=self.settings.num_steps,
        )
        optimizer.set_rate(self.updates, rate)
        batches = make_batches(
            self.examples,
            rows,
            capacity=self.execution.num_tokens_per_batch,
            process=process,
            num_processes=self.accelerator.num_processes,
        )
        step = take_step(
            self.loss_of,
            self.updates,
            batches,
            accelerator=self.accelerator,
            max_grad_norm=self.settings.max_grad_norm,
            recent=progress.recent,
            number=progress.step + 1,
        )
        return step, rate

    def measure(self) -> float:
        """Bits per character of the held-out answers."""
        return evaluate(
            self.loss_of,
            self.heldout,
            accelerator=self.accelerator,
            num_tokens_per_batch=self.execution.num_tokens_per_batch,
        )

    def save(self, progress: Progress, *, is_asked_to_stop: bool) -> None:
        """A checkpoint where one is due; KeyboardInterrupt after it if any process was asked to stop."""
        is_last = progress.step == self.settings.num_steps
        # All processes must save together.
        asked = torch.tensor(float(is_asked_to_stop), device=self.accelerator.device)
        is_stopping = not is_last and sum_over_processes(asked, self.accelerator).item() > 0
        if is_stopping or is_last or progress.step % self.execution.save_steps == 0:
            # Reading back what was written would else come on top of the holes that the steps left.
            release_memory()
            self.checkpoints.save(progress, self.trained, self.updates)
        if is_stopping:
            raise KeyboardInterrupt

    def remember_best(self, progress: Progress, bits: float) -> Progress:
        """Keep the weights if no measurement was better."""
        best = progress.best_bits_per_char
        if not self.settings.keep_best or (best is not None and best <= bits):
            return progress
        self.checkpoints.save_best(progress.step, self.trained)
        return replace(progress, best_step=progress.step, best_bits_per_char=bits)

    def finish(self, progress: Progress) -> dict[str, Any]:
        """Measure the result; where an earlier one was better and is wanted, it takes its place."""
        if not self.heldout:
            return {}
        bits, best, best_step = self.measure(), progress.best_bits_per_char, progress.best_step
        found: dict[str, Any] = {"eval_bits_per_char": bits}
        if self.settings.keep_best:
            found["best_step"] = progress.step
        is_worse = best is not None and best < bits
        if is_worse and best_step is not None and self.checkpoints.restore_best(best_step, self.trained):
            logger.info("step %d was better on held-out data than the last: %.4f bits per character", best_step, best)
            found = {"eval_bits_per_char": self.measure(), "best_step": best_step}
        if self.is_main:
            self.metrics.write(step=progress.step, **found)
        return found


def _run_id(settings: Settings, examples: Sequence[Example], trained: Mapping[str, Tensor]) -> str:
    """What a checkpoint must agree with to be continued; not the number of processes nor the size of batches."""
    shapes = {name: list(parameter.shape) for name, parameter in trained.items()}
    rows = [[example.row_id, len(example.ids_T), int(example.is_target_T.sum())] for example in examples]
    return hash_json({"settings": asdict(settings), "rows": rows, "weights": shapes})
