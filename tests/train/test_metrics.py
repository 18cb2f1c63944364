"""Trackers: a missing one is refused before anything is trained; a present one gets every figure."""

import importlib.util
from pathlib import Path

import pytest

from baihua.core.errors import InputError
from baihua.train.metrics import Trackers, check_trackers

MISSING = next((name for name in ("swanlab", "trackio", "wandb") if importlib.util.find_spec(name) is None), None)
FIGURES = [{"loss": 2.5, "is_skipped": True}, {"loss": 1.25}]


@pytest.mark.skipif(MISSING is None, reason="every tracker is installed")
def test_a_tracker_that_is_not_installed_is_refused_with_the_way_to_get_it(tmp_path: Path) -> None:
    assert MISSING
    for ask in (lambda: check_trackers([MISSING]), Trackers([MISSING], tmp_path, {}, is_main=True).__enter__):
        with pytest.raises(InputError) as error:
            ask()
        assert error.value.what == f"the tracker {MISSING!r} is not installed"
        assert error.value.where == "trackers"
        assert error.value.fix == f"pip install {MISSING}, or take it out of `trackers`"


def test_no_tracker_and_another_process_leave_nothing(tmp_path: Path) -> None:
    for trackers in (
        Trackers([], tmp_path, {}, is_main=True),
        Trackers(["tensorboard"], tmp_path, {}, is_main=False),
    ):
        with trackers:
            trackers.log(FIGURES[0], 1)
    assert not list(tmp_path.iterdir())


def test_tensorboard_gets_every_figure_of_every_step_and_the_settings(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Trackers(["tensorboard"], tmp_path, {"rate": 0.1, "order": {"seed": 3}, "x": None}, is_main=True) as trackers:
        for step, figures in enumerate(FIGURES, start=1):
            trackers.log(figures, step)
    [file] = tmp_path.rglob("*tfevents*0")
    events = EventAccumulator(str(file.parent)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 2.5), (2, 1.25)]
    assert [event.value for event in events.Scalars("is_skipped")] == [1.0]
    assert "seed: 3" in next(tmp_path.rglob("hparams.yml")).read_text(encoding="utf-8")
