"""Rows to batches: nothing lost, nothing invented, the same order every time."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baihua.chat.types import Message
from baihua.core.errors import InputError
from baihua.model import tiny
from baihua.train.batches import Order, collate, iterate_steps, make_examples, num_steps_per_epoch, plan_epoch
from conversations import encode_rows, make_encoder, make_rows


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("batches") / "tiny")


orders = st.builds(
    Order,
    seed=st.integers(0, 5),
    num_rows_per_batch=st.integers(1, 5),
    num_batches_per_step=st.integers(1, 3),
    num_processes=st.integers(1, 3),
)


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60), order=orders, epoch=st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_an_epoch_takes_every_row_once(lengths: list[int], order: Order, epoch: int) -> None:
    plan = plan_epoch(lengths, order, epoch=epoch)
    assert sorted(row for step in plan for batch in step for row in batch) == list(range(len(lengths)))
    assert len(plan) == num_steps_per_epoch(len(lengths), order)
    assert plan == plan_epoch(lengths, order, epoch=epoch)


def test_epochs_and_seeds_have_different_orders() -> None:
    lengths = [1] * 50
    plans = [plan_epoch(lengths, Order(seed, 4), epoch=epoch) for seed, epoch in [(0, 0), (0, 1), (1, 0)]]
    assert plans[0] != plans[1] != plans[2] != plans[0]


def test_grouping_by_length_leaves_little_padding() -> None:
    lengths = [(number * 37) % 101 + 1 for number in range(128)]
    batches = [batch for step in plan_epoch(lengths, Order(0, 4), epoch=0) for batch in step]
    padded = sum(max(lengths[row] for row in batch) * len(batch) for batch in batches)
    assert sum(lengths) / padded > 0.9


def test_an_order_can_be_entered_at_any_step(model: Path) -> None:
    examples = encode_rows(model, make_rows(10))
    order = Order(seed=3, num_rows_per_batch=2, num_batches_per_step=2)
    whole = [[b.row_ids for b in step] for step in iterate_steps(examples, order, first_step=0, num_steps=8)]
    assert len(whole) == 8
    late = [[b.row_ids for b in step] for step in iterate_steps(examples, order, first_step=5, num_steps=8)]
    assert late == whole[5:]


def test_processes_share_each_step_and_none_is_left_out(model: Path) -> None:
    examples = encode_rows(model, make_rows(5))
    parts = [
        list(iterate_steps(examples, Order(0, 2, process=process, num_processes=2), first_step=0, num_steps=2))
        for process in range(2)
    ]
    assert [len(part) for part in parts] == [2, 2]
    assert sorted(i for part in parts for step in part for b in step for i in b.row_ids) == [
        f"row-{n}" for n in range(5)
    ]
    empty = parts[1][1][0]
    assert (empty.row_ids, empty.num_tokens, len(empty.labels_N), int(empty.is_answered_BT.sum())) == ((), 0, 0, 0)


def test_labels_are_the_trained_tokens_and_never_padding(model: Path) -> None:
    examples = encode_rows(model, make_rows(6, num_turns=2))
    batch = collate(examples)
    wanted = [token for e in examples for token, is_target in zip(e.ids_T, e.is_target_T, strict=True) if is_target]
    assert batch.labels_N.tolist() == wanted
    assert batch.input_ids_BT.roll(-1, dims=1)[batch.is_answered_BT].tolist() == wanted
    assert batch.num_tokens == sum(len(e.ids_T) for e in examples) < batch.input_ids_BT.numel()


def test_targets_are_the_answers_with_their_ends(model: Path) -> None:
    encoder = make_encoder(model)
    example = encoder.encode("x", [Message("user", "问"), Message("assistant", "答。😀")])
    target = example.ids_T[example.is_target_T].tolist()
    assert target[-1] == encoder.tokenizer.controls["<|im_end|>"]
    assert b"".join(map(encoder.tokenizer.token_bytes, target)).decode() == "答。😀"
    assert (example.target_text.num_chars, example.target_text.num_bytes) == (3, 10)


@pytest.mark.parametrize("max_length", range(12, 120, 9))
def test_a_cut_row_ends_with_a_whole_answer_or_without_an_end(model: Path, max_length: int) -> None:
    encoder = make_encoder(model)
    end = encoder.tokenizer.controls["<|im_end|>"]
    for row in make_rows(20, num_turns=3):
        whole = encoder.encode(row.id, row.messages)
        cut = encoder.cut(whole, max_length)
        assert len(cut.ids_T) <= max_length
        assert cut.ids_T.tolist() == whole.ids_T[: len(cut.ids_T)].tolist()
        num_ends = int((cut.ids_T[cut.is_target_T] == end).sum())
        assert num_ends == 0 or not cut.is_cut or cut.ids_T[-1] == end


@pytest.mark.parametrize("max_length", [20, 31, 44])
def test_a_character_of_a_cut_row_counts_where_it_starts(model: Path, max_length: int) -> None:
    encoder = make_encoder(model)
    cut = encoder.cut(encoder.encode("x", [Message("user", "问"), Message("assistant", "😀齉" * 20)]), max_length)
    data = b"".join(map(encoder.tokenizer.token_bytes, cut.ids_T.tolist()))
    assert cut.is_cut
    assert (cut.text.num_chars, cut.text.num_bytes) == (len(data.decode(errors="replace")), len(data))


def test_few_rows_without_an_answer_are_dropped_and_counted(model: Path) -> None:
    rows = make_rows(200)
    rows[7] = dataclasses.replace(rows[7], messages=(Message("user", "没有回答"),))
    examples = make_examples(rows, make_encoder(model), max_length=512)
    assert (len(examples.kept), examples.num_dropped) == (199, {"no_answer": 1})


def test_many_rows_without_an_answer_are_an_error_that_names_the_first(model: Path) -> None:
    rows = make_rows(10)
    rows[3] = dataclasses.replace(rows[3], messages=(Message("user", "没有回答"),))
    with pytest.raises(InputError, match=r"1 of 10 rows have nothing to learn from; the first has no answer of") as e:
        make_examples(rows, make_encoder(model), max_length=512)
    assert "where: talks.jsonl:4" in str(e.value)


def test_prompts_that_fill_every_row_are_an_error_that_names_the_limit(model: Path) -> None:
    with pytest.raises(InputError, match="no answer within its first 5 tokens") as error:
        make_examples(make_rows(3), make_encoder(model), max_length=5)
    assert "raise `max_length`" in str(error.value)


def test_no_rows_are_an_error(model: Path) -> None:
    with pytest.raises(InputError, match="there are no rows to train on"):
        make_examples([], make_encoder(model), max_length=512)


def test_a_row_that_the_template_refuses_is_named(model: Path) -> None:
    encoder = make_encoder(model)
    encoder.template = dataclasses.replace(encoder.template, jinja="{{ messages[0]['content'] | trim }}<|im_end|>")
    rows = [dataclasses.replace(make_rows(1)[0], messages=(Message("assistant", " 空格 "),))]
    with pytest.raises(InputError, match="changes the texts") as error:
        make_examples(rows, encoder, max_length=512)
    assert "where: talks.jsonl:1" in str(error.value)
