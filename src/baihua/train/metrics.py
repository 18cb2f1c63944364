"""Figures to a tracker of the user's choice, through Accelerate; the local `metrics.jsonl` is written in any case."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from baihua.core.errors import InputError

Name = Literal["tensorboard", "wandb", "swanlab", "trackio"]


def check_trackers(names: Sequence[str]) -> None:
    """Refuse a tracker that is not installed, before anything is trained; Accelerate would leave it out silently."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"the tracker {name!r} is not installed",
                where="trackers",
                fix=f"pip install {name}, or take it out of `trackers`",
            )


class Trackers:
    """The trackers of one run, open while it trains; only the main process has any."""

    def __init__(self, names: Sequence[str], folder: Path, settings: Mapping[str, Any], *, is_main: bool) -> None:
        self._names = tuple(names) if is_main else ()
        self._folder = folder
        self._settings = settings
        self._trackers: list[Any] = []

    def __enter__(self) -> "Trackers":
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        check_trackers(self._names)
        for name in self._names:
            kind = LOGGER_TYPE_TO_CLASS[name]
            where = {"logging_dir": self._folder / "trackers"} if kind.requires_logging_directory else {}
            tracker = kind("baihua", **where)
            tracker.start()
            tracker.store_init_configuration(_flat(self._settings))
            self._trackers.append(tracker)
        return self

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """One step's figures."""
        for tracker in self._trackers:
            tracker.log({name: float(value) for name, value in figures.items()}, step=step)

    def __exit__(self, *exception: object) -> None:
        for tracker in self._trackers:
            tracker.finish()


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without nesting: trackers show flat tables."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        below = _flat(value) if isinstance(value, Mapping) else {}
        flat |= {f"{name}.{key}": each for key, each in below.items()} if below else {name: value}
    return {name: value for name, value in flat.items() if isinstance(value, bool | int | float | str)}
