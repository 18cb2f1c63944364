"""Compiled layers say the same as layers that are not."""

import shutil
from pathlib import Path

import pytest
import torch
from conversations import encode_rows, make_rows
from trainings import change, make_plan

from baihua.model.load import load_model
from baihua.train.loop import train
from baihua.train.methods import full


@pytest.mark.extras
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="needs a C++ compiler")
def test_compiled_layers_learn_the_same(tiny_folder: Path, tmp_path: Path) -> None:
    examples = encode_rows(tiny_folder, make_rows(8))
    plan = make_plan(seed=0, num_steps=3, learning_rate=1e-3, num_tokens_per_batch=2048, schedule={"warmup_ratio": 0})
    states = []
    for compiles in (False, True):
        model = full.prepare(load_model(tiny_folder), full.Config())
        plan = change(plan, running={"compile": compiles}, recomputes=compiles)
        states.append(train(model, examples, out=tmp_path / str(compiles), plan=plan).state)
    for name, weight in states[0].items():
        torch.testing.assert_close(states[1][name], weight, rtol=1e-4, atol=1e-5)
