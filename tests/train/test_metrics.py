"""Trackers: a missing one is refused before anything is trained; a present one gets every figure."""

import importlib.util
from pathlib import Path

import pytest

from baihua.core.errors import InputError
from baihua.train.metrics import check_trackers, open_trackers

MISSING = next((name for name in ("swanlab", "trackio", "wandb") if importlib.util.find_spec(name) is None), None)
FIGURES = [{"loss": 2.5, "is_skipped": True}, {"loss": 1.25}]


@pytest.mark.skipif(MISSING is None, reason="every tracker is installed")
def test_a_tracker_that_is_not_installed_is_refused_with_the_way_to_get_it(tmp_path: Path) -> None:
    assert MISSING
    for refuse in (lambda: check_trackers([MISSING]), open_trackers([MISSING], tmp_path, {}).__enter__):
        with pytest.raises(InputError) as error:
            refuse()
        assert error.value.what == f"the tracker {MISSING!r} is not installed"
        assert error.value.where == "running.trackers"
        assert error.value.fix == f"pip install {MISSING}, or remove it from `trackers`"


def test_no_tracker_leaves_nothing(tmp_path: Path) -> None:
    with open_trackers([], tmp_path, {}) as track:
        track(FIGURES[0], 1)
    assert not list(tmp_path.iterdir())


def test_tensorboard_gets_every_figure_of_every_step_and_the_settings(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with open_trackers(["tensorboard"], tmp_path, {"rate": 0.1, "order": {"seed": 3}, "x": None}) as track:
        for step, figures in enumerate(FIGURES, start=1):
            track(figures, step)
    [file] = tmp_path.rglob("*tfevents*0")
    events = EventAccumulator(str(file.parent)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 2.5), (2, 1.25)]
    assert [event.value for event in events.Scalars("is_skipped")] == [1.0]
    assert "seed: 3" in next(tmp_path.rglob("hparams.yml")).read_text(encoding="utf-8")
