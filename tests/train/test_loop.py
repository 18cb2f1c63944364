"""The loop: it learns, counts, measures, and packing or accumulation change nothing."""

from pathlib import Path

import pytest
import torch
from conversations import encode_rows, make_rows
from documents import distance, make_documents, make_model
from trainings import change, is_equal, make_lora, make_plan, read_metrics

from baihua.core.errors import InputError
from baihua.model.examples import Example
from baihua.model.load import load_model
from baihua.train.checkpoint import Checkpoints
from baihua.train.examples.batches import make_batches
from baihua.train.layers.attention import use_document_attention
from baihua.train.layers.loss import TargetLoss, causal_model
from baihua.train.loop import CHECKPOINTS, open_accelerator, remove_checkpoints, train
from baihua.train.step import TrainingSession, evaluate


@pytest.fixture(scope="module")
def examples(tiny_folder: Path) -> list[Example]:
    return encode_rows(tiny_folder, make_rows(9))


@pytest.mark.parametrize("batches", [{"num_rows_per_step": 8}, {"num_tokens_per_step": 800}])
def test_a_step_in_one_batch_and_in_eight_makes_the_same_weights(batches: dict[str, int], tmp_path: Path) -> None:
    documents = make_documents([60, 55, 99, 70, 80, 100, 51, 64])
    plan = make_plan(seed=1, batches=batches, num_steps=1, schedule={"warmup_ratio": 0}, learning_rate=1e-3)
    before, states = make_model().state_dict(), []
    for capacity, num_batches in ((1000, 1), (100, 8)):
        assert len(make_batches(documents, range(8), capacity=capacity)) == num_batches
        plan = change(plan, num_tokens_per_batch=capacity)
        out = tmp_path / str(capacity)
        states.append(train(make_model(), documents, out=out, plan=plan).state)
        [line] = read_metrics(out)
        assert line["num_tokens"] == sum(len(document.ids_T) for document in documents)
    assert {name for name, weight in states[0].items() if torch.equal(weight, before[name])} == set()
    assert max(distance(states[1][name], weight) for name, weight in states[0].items()) < 1e-5


def test_the_model_learns_its_rows(tiny_folder: Path, examples: list[Example], tmp_path: Path) -> None:
    plan = make_plan(num_steps=20, learning_rate=1e-2, checkpoints={"eval_steps": 5})
    model = load_model(tiny_folder)
    outcome = train(model, examples, heldout=examples, out=tmp_path, plan=plan)
    *lines, last = read_metrics(tmp_path)
    measured = [line["eval_bits_per_char"] for line in lines if "eval_bits_per_char" in line]
    assert len(measured) == 4
    assert measured == sorted(measured, reverse=True)
    assert measured[-1] == last["eval_bits_per_char"] == outcome.figures["eval_bits_per_char"]
    assert lines[0]["loss"] > 1.5 * lines[19]["loss"]


def test_every_step_has_its_figures(tiny_folder: Path, examples: list[Example], tmp_path: Path) -> None:
    outcome = train(make_lora(tiny_folder), examples, out=tmp_path, plan=make_plan())
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert all(line["grad_norm"] > 0 for line in lines)
    assert all(line["tokens_per_second"] > 0 < line["chars_per_second"] for line in lines)
    rates = [make_plan().rate_at(step) for step in range(8)]
    assert [line["learning_rate"] for line in lines] == pytest.approx(rates)
    # Three steps are an epoch of nine rows.
    num_tokens = sum(len(example.ids_T) for example in examples)
    assert (lines[2]["num_tokens"], lines[5]["num_tokens"]) == (num_tokens, 2 * num_tokens)
    assert (outcome.figures["num_steps"], outcome.figures["num_tokens"]) == (8, lines[-1]["num_tokens"])
    assert outcome.figures["num_processes"] == 1


def test_the_result_is_the_trained_weights(tiny_folder: Path, examples: list[Example], tmp_path: Path) -> None:
    model = make_lora(tiny_folder)
    outcome = train(model, examples, out=tmp_path, plan=make_plan())
    assert is_equal(outcome.state, {name: w.detach() for name, w in model.named_parameters() if w.requires_grad})


def test_training_leaves_the_callers_random_numbers_alone(
    tiny_folder: Path, examples: list[Example], tmp_path: Path
) -> None:
    model = make_lora(tiny_folder)
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    train(model, examples, out=tmp_path, plan=make_plan(num_steps=1))
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_recomputed_activations_change_no_bit(
    tiny_folder: Path, examples: list[Example], tmp_path: Path, precision
) -> None:
    plan = make_plan(precision=precision, num_steps=3)
    states = []
    for recomputes in (False, True):
        out = tmp_path / str(recomputes)
        plan = change(plan, recomputes=recomputes)
        states.append(train(make_lora(tiny_folder), examples, out=out, plan=plan).state)
    assert is_equal(states[0], states[1])


@pytest.mark.parametrize("is_last_best", [True, False])
def test_the_best_weights_are_the_result_where_they_are_wanted(
    tiny_folder: Path, tmp_path: Path, is_last_best: bool
) -> None:
    documents = make_documents([30, 40, 20])
    # Whoever learns random tokens by heart gets worse at other random tokens.
    heldout = documents if is_last_best else make_documents([30, 40, 20], seed=50)
    rate = 0.005 if is_last_best else 0.03
    plan = make_plan(
        checkpoints={"eval_steps": 2, "keep_best": True},
        schedule={"kind": "constant"},
        num_steps=9,
        learning_rate=rate,
    )
    outcome = train(make_lora(tiny_folder), documents, heldout=heldout, out=tmp_path, plan=plan)
    *lines, last = read_metrics(tmp_path)
    measured = {line["step"]: line["eval_bits_per_char"] for line in lines if "eval_bits_per_char" in line}
    best = outcome.figures["best_step"]
    assert measured.keys() == {2, 4, 6, 8}
    assert (best == 9) == is_last_best
    assert last["eval_bits_per_char"] == outcome.figures["eval_bits_per_char"] <= min(measured.values())
    assert is_last_best or measured[best] == min(measured.values()) == outcome.figures["eval_bits_per_char"]
    # The oracle: the result, put into a new model, measures the same.
    session = make_session(tiny_folder, outcome.state, num_tokens_per_batch=150)
    assert evaluate(session, heldout) == pytest.approx(outcome.figures["eval_bits_per_char"], rel=1e-6)


def make_session(folder: Path, state: dict[str, torch.Tensor], *, num_tokens_per_batch: int) -> TrainingSession:
    """A session that evaluates the tiny model with these weights."""
    model = make_lora(folder)
    model.load_state_dict(state, strict=False)
    use_document_attention(causal_model(model))
    return TrainingSession(
        make_plan(num_tokens_per_batch=num_tokens_per_batch),
        open_accelerator(),
        TargetLoss(model, precision="float32"),
        trained={},
        optimizer=torch.optim.SGD(model.parameters()),
        checkpoints=Checkpoints(Path("never written"), run_id=""),
    )


def test_an_evaluation_does_not_depend_on_how_examples_are_packed(tiny_folder: Path, examples: list[Example]) -> None:
    bits = [evaluate(make_session(tiny_folder, {}, num_tokens_per_batch=size), examples) for size in (120, 5000)]
    assert bits[0] == pytest.approx(bits[1], rel=1e-6)


def test_shards_on_one_process_are_refused(tiny_folder: Path, examples: list[Example], tmp_path: Path) -> None:
    plan = make_plan(running={"parallel": "fsdp"})
    with pytest.raises(InputError, match="parallel=fsdp needs several processes, there is one") as error:
        train(make_lora(tiny_folder), examples, out=tmp_path, plan=plan)
    assert "baihua run RECIPE --processes N" in str(error.value)


def test_checkpoints_go_when_the_result_is_saved(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINTS / "checkpoint-1").mkdir(parents=True)
    remove_checkpoints(tmp_path)
    assert not list(tmp_path.iterdir())
