"""The loop: it learns, it resumes bit by bit, it stops when numbers break."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from baihua.core.errors import RunError
from baihua.model import tiny
from baihua.model.examples import Example
from baihua.model.load import load_model
from baihua.train import loop
from baihua.train.loop import CHECKPOINTS, METRICS, Settings, remove_checkpoints, train
from baihua.train.methods import lora
from conversations import encode_rows, make_rows

SETTINGS = Settings(
    num_steps=8, seed=1, learning_rate=5e-3, num_rows_per_batch=2, num_batches_per_step=2, num_warmup_steps=2
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("loop") / "tiny")


@pytest.fixture(scope="module")
def examples(folder: Path) -> list[Example]:
    return encode_rows(folder, make_rows(9))


def make_model(folder: Path, dropout: float = 0.3) -> torch.nn.Module:
    torch.manual_seed(0)
    return lora.prepare(load_model(folder), lora.Config(rank=4, dropout=dropout))


def trained(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}


class KilledError(Exception):
    """Stands for a kill."""


class Dying:
    """Examples that kill the run when their n-th is read."""

    def __init__(self, examples: list[Example], num_reads: int) -> None:
        self.examples, self.num_reads = examples, num_reads

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    def __getitem__(self, index: int) -> Example:
        self.num_reads -= 1
        if self.num_reads < 0:
            raise KilledError
        return self.examples[index]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_resumed_run_ends_with_the_same_bits(
    folder: Path, examples: list[Example], tmp_path: Path, precision, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    settings = replace(SETTINGS, precision=precision)
    whole, broken = make_model(folder), make_model(folder)
    train(whole, examples, heldout=[], out=tmp_path / "a", settings=settings)
    with pytest.raises(KilledError):
        train(broken, Dying(examples, 14), heldout=[], out=tmp_path / "b", settings=settings, save_steps=3)  # type: ignore[arg-type]
    resumed = make_model(folder)
    torch.manual_seed(12345)
    figures = train(resumed, examples, heldout=[], out=tmp_path / "b", settings=settings, save_steps=3)
    assert "resumed at step 3" in caplog.text
    assert all(torch.equal(weight, trained(resumed)[name]) for name, weight in trained(whole).items())
    lines = [json.loads(line) for line in (tmp_path / "b" / METRICS).read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert figures["num_steps"] == 8
    assert figures["num_tokens"] == lines[-1]["num_tokens"]


def test_the_model_learns_its_rows(folder: Path, examples: list[Example], tmp_path: Path) -> None:
    model = load_model(folder)
    settings = replace(SETTINGS, num_steps=20, learning_rate=1e-2)
    figures = train(model, examples, heldout=examples, out=tmp_path, settings=settings, eval_steps=5)
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    evaluated = [line["eval_bits_per_char"] for line in lines if "eval_bits_per_char" in line]
    assert evaluated[0] > evaluated[-1] == figures["eval_bits_per_char"]
    assert lines[0]["loss"] > 1.5 * lines[19]["loss"]
    assert {"learning_rate", "grad_norm", "tokens_per_second", "chars_per_second"} <= lines[0].keys()


def test_training_leaves_the_callers_random_numbers_alone(
    folder: Path, examples: list[Example], tmp_path: Path
) -> None:
    model = make_model(folder)
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    train(model, examples, heldout=[], out=tmp_path, settings=replace(SETTINGS, num_steps=1))
    assert torch.equal(torch.rand(3), wanted)


def test_a_loss_that_is_not_a_number_stops_the_run_and_names_the_rows(
    folder: Path, examples: list[Example], tmp_path: Path
) -> None:
    model = make_model(folder)
    with torch.no_grad():
        next(weight for weight in model.parameters() if weight.requires_grad).fill_(float("nan"))
    with pytest.raises(RunError, match="the loss became nan at step 1") as error:
        train(model, examples, heldout=[], out=tmp_path, settings=SETTINGS)
    assert "where: rows row-" in str(error.value)
    assert "lower `learning_rate`" in str(error.value)


class Exploding(torch.nn.Module):
    """A finite loss with an infinite gradient: the square root at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(4, 512))

    def forward(self, input_ids: torch.Tensor, logits_to_keep: torch.Tensor, use_cache: bool) -> "Exploding":
        self.logits = self.weight.sqrt()[:1].expand(int(logits_to_keep.sum()), -1)
        return self


def test_an_infinite_gradient_stops_the_run_before_the_weights_change(examples: list[Example], tmp_path: Path) -> None:
    model = Exploding()
    with pytest.raises(RunError, match=r"the gradient became (inf|nan) at step 1"):
        train(model, examples, heldout=[], out=tmp_path, settings=SETTINGS)
    assert torch.equal(model.weight, torch.zeros(4, 512))


def test_weights_decay_in_matrices_only() -> None:
    weights = {"matrix": torch.nn.Parameter(torch.ones(2, 2)), "norm": torch.nn.Parameter(torch.ones(2))}
    groups = loop.make_optimizer(weights, replace(SETTINGS, weight_decay=0.1)).param_groups
    assert [(group["weight_decay"], group["params"][0].ndim) for group in groups] == [(0.1, 2), (0.0, 1)]


def test_checkpoints_go_when_the_result_is_saved(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINTS / "checkpoint-1").mkdir(parents=True)
    remove_checkpoints(tmp_path)
    assert not list(tmp_path.iterdir())
