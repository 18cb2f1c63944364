"""Compiled layers say the same as layers that are not."""

import shutil
from pathlib import Path

import pytest
import torch
from conversations import encode_rows, make_rows

from baihua.model.load import load_model
from baihua.train.examples.batches import Order
from baihua.train.loop import train
from baihua.train.methods import full
from baihua.train.settings import Execution, Settings


@pytest.mark.extras
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="needs a C++ compiler")
def test_compiled_layers_learn_the_same(tiny_folder: Path, tmp_path: Path) -> None:
    examples = encode_rows(tiny_folder, make_rows(8))
    settings = Settings(order=Order(0, 4), num_steps=3, learning_rate=1e-3)
    states = []
    for compiles in (False, True):
        model = full.prepare(load_model(tiny_folder), full.Config())
        execution = Execution(compiles=compiles, uses_checkpointing=compiles)
        states.append(
            train(model, examples, out=tmp_path / str(compiles), settings=settings, execution=execution).state
        )
    for name, weight in states[0].items():
        torch.testing.assert_close(states[1][name], weight, rtol=1e-4, atol=1e-5)
