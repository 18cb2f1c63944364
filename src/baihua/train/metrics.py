"""Figures of a training: those of each step, and trackers that get them through Accelerate.

They are written to `metrics.jsonl` with or without a tracker.
"""

import importlib.util
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS

from baihua.core.errors import InputError
from baihua.train.checkpoint import Progress
from baihua.train.step import StepResult

Track = Callable[[Mapping[str, float], int], None]


def step_figures(step: StepResult, progress: Progress, *, rate: float) -> dict[str, float | int]:
    """One line of `metrics.jsonl`; `progress` includes the step."""
    return {
        "step": progress.step,
        "loss": step.loss,
        "grad_norm": step.grad_norm,
        "num_tokens": progress.num_tokens,
        "tokens_per_second": step.num_tokens / step.seconds,
        "chars_per_second": step.num_chars / step.seconds,
    } | ({"is_skipped": True, "learning_rate": rate} if step.is_skipped else {"learning_rate": rate})


def progress_line(step: StepResult) -> str:
    """The figures shown next to the progress bar."""
    tokens, chars = step.num_tokens / step.seconds, step.num_chars / step.seconds
    return f"loss {step.loss:.3f}  {tokens:,.0f} tokens/s  {chars:,.0f} characters/s"


def summary_figures(progress: Progress) -> dict[str, float | int]:
    """Totals and rates of the whole training; no rates if no step was ever taken."""
    num_tokens, num_chars, seconds = progress.num_tokens, progress.num_chars, progress.seconds
    totals = {"num_steps": progress.step, "num_tokens": num_tokens, "num_target_tokens": progress.num_target_tokens}
    rates = {"tokens_per_second": num_tokens / seconds, "chars_per_second": num_chars / seconds} if seconds else {}
    return totals | rates


def check_trackers(names: Sequence[str]) -> None:
    """Refuse a tracker that is not installed; Accelerate would silently leave it out."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            fix = f"pip install {name}, or remove it from `trackers`"
            raise InputError(f"the tracker {name!r} is not installed", where="running.trackers", fix=fix)


@contextmanager
def open_trackers(names: Sequence[str], folder: Path, settings: Mapping[str, Any]) -> Generator[Track]:
    """A function that sends the figures of a step to all trackers, which are closed at the end."""
    check_trackers(names)
    trackers: list[Any] = []
    for name in names:
        kind = LOGGER_TYPE_TO_CLASS[name]
        tracker = kind("baihua", **({"logging_dir": folder / "trackers"} if kind.requires_logging_directory else {}))
        tracker.start()
        tracker.store_init_configuration(_flat(settings))
        trackers.append(tracker)

    def log(figures: Mapping[str, float], step: int) -> None:
        for tracker in trackers:
            tracker.log({name: float(value) for name, value in figures.items()}, step=step)

    try:
        yield log
    finally:
        for tracker in trackers:
            tracker.finish()


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without nesting: trackers show flat tables."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{key}": each for key, each in _flat(value).items()}
        elif isinstance(value, bool | int | float | str):
            flat[name] = value
    return flat
