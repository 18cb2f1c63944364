"""Examples to steps and steps to batches: nothing lost, nothing invented, the same order every time."""

import itertools
import math
from fractions import Fraction

import pytest
from documents import make_documents
from hypothesis import example, given, settings
from hypothesis import strategies as st

from baihua.train.config import BatchSettings, TrainingConfig
from baihua.train.examples.batches import (
    LENGTH_MULTIPLE,
    collate,
    count_steps,
    iterate_rows,
    make_batches,
    pack,
    plan_epoch,
)

CAPACITY = 50


def order_by(seed: int, num_rows_per_step: int = 1, num_tokens_per_step: int | None = None) -> TrainingConfig:
    batches = BatchSettings(num_rows_per_step=num_rows_per_step, num_tokens_per_step=num_tokens_per_step)
    return TrainingConfig(seed=seed, batches=batches)


lengths_of_rows = st.lists(st.integers(1, CAPACITY), min_size=1, max_size=40)
by_rows = st.builds(order_by, seed=st.integers(0, 5), num_rows_per_step=st.integers(1, 9))
by_tokens = st.builds(order_by, seed=st.integers(0, 5), num_tokens_per_step=st.integers(1, 120))
orders = by_rows | by_tokens


@given(lengths=lengths_of_rows, order=orders, epoch=st.integers(0, 3))
def test_an_epoch_takes_every_row_once(lengths: list[int], order: TrainingConfig, epoch: int) -> None:
    plan = plan_epoch(lengths, order, epoch=epoch)
    assert sorted(row for step in plan for row in step) == list(range(len(lengths)))
    assert all(plan)
    assert plan == plan_epoch(lengths, order, epoch=epoch)


@given(lengths=lengths_of_rows, order=by_rows)
def test_every_step_but_the_last_has_as_many_rows_as_were_asked_for(lengths: list[int], order: TrainingConfig) -> None:
    *whole, last = plan_epoch(lengths, order, epoch=0)
    assert all(len(step) == order.batches.num_rows_per_step for step in whole)
    assert 0 < len(last) <= order.batches.num_rows_per_step


@given(lengths=lengths_of_rows, order=by_tokens)
def test_a_step_by_tokens_is_full_and_passes_its_number_only_with_a_single_row(
    lengths: list[int], order: TrainingConfig
) -> None:
    plan = plan_epoch(lengths, order, epoch=0)
    wanted = order.batches.num_tokens_per_step
    assert wanted is not None
    for step in plan:
        assert sum(lengths[row] for row in step) <= wanted or len(step) == 1
    for step, following in itertools.pairwise(plan):
        assert sum(lengths[row] for row in step) + lengths[following[0]] > wanted


def test_epochs_and_seeds_have_different_orders() -> None:
    lengths = [1] * 50
    plans = [plan_epoch(lengths, order_by(seed, 4), epoch=epoch) for seed, epoch in [(0, 0), (0, 1), (1, 0)]]
    assert plans[0] != plans[1] != plans[2] != plans[0]


@given(lengths=lengths_of_rows, order=orders, num_steps=st.integers(1, 30), data=st.data())
def test_an_order_can_be_entered_at_any_step(lengths: list[int], order: TrainingConfig, num_steps: int, data) -> None:
    first = data.draw(st.integers(0, num_steps))
    whole = list(iterate_rows(lengths, order, first=0, num_steps=num_steps))
    assert len(whole) == num_steps
    assert list(iterate_rows(lengths, order, first=first, num_steps=num_steps)) == whole[first:]


@given(lengths=lengths_of_rows, order=orders, num_hundredths=st.integers(1, 350))
@example(lengths=[1] * 5, order=order_by(0, 1), num_hundredths=160)
def test_a_fraction_of_an_epoch_is_rounded_up_to_whole_steps(
    lengths: list[int], order: TrainingConfig, num_hundredths: int
) -> None:
    whole, share = divmod(Fraction(num_hundredths, 100), 1)
    plans = [plan_epoch(lengths, order, epoch=epoch) for epoch in range(int(whole) + 1)]
    wanted = sum(map(len, plans[:-1])) + math.ceil(share * len(plans[-1]))
    assert count_steps(lengths, order, num_epochs=num_hundredths / 100) == wanted


@given(lengths=lengths_of_rows, num_processes=st.integers(1, 4))
def test_packing_keeps_every_item_once_in_batches_that_fit(lengths: list[int], num_processes: int) -> None:
    shares = pack(lengths, capacity=CAPACITY, num_processes=num_processes)
    batches = [batch for share in shares for batch in share]
    assert sorted(item for batch in batches for item in batch) == list(range(len(lengths)))
    assert max(sum(lengths[item] for item in batch) for batch in batches) <= CAPACITY
    assert len(shares) == num_processes
    assert len({len(share) for share in shares}) == 1
    assert shares == pack(lengths, capacity=CAPACITY, num_processes=num_processes)


def fewest_batches(lengths: list[int]) -> int:
    """The oracle: for every set of items the fewest batches, and the least that the last of them can hold."""
    best = [(1, 0)] + [(len(lengths) + 1, 0)] * (2 ** len(lengths) - 1)
    for items in range(1, len(best)):
        for item, length in enumerate(lengths):
            if items >> item & 1:
                num_batches, filled = best[items ^ 1 << item]
                added = (num_batches, filled + length) if filled + length <= CAPACITY else (num_batches + 1, length)
                best[items] = min(best[items], added)
    return best[-1][0]


@given(lengths=st.lists(st.integers(1, CAPACITY), min_size=1, max_size=9))
@settings(max_examples=50, deadline=None)
def test_packing_takes_at_most_22_percent_more_batches_than_the_fewest(lengths: list[int]) -> None:
    [batches] = pack(lengths, capacity=CAPACITY)
    assert fewest_batches(lengths) <= len(batches) <= 11 / 9 * fewest_batches(lengths) + 1


def test_batches_are_evenly_filled_where_that_takes_no_more_of_them() -> None:
    lengths = [30, 30, 10, 10]
    assert [sum(lengths[item] for item in batch) for batch in pack(lengths, capacity=CAPACITY)[0]] == [40, 40]


@given(lengths=lengths_of_rows)
def test_a_batch_is_its_documents_end_to_end(lengths: list[int]) -> None:
    documents = make_documents(lengths)
    batch = collate(documents)
    assert len(batch.ids_T) % LENGTH_MULTIPLE == 0
    assert len(batch.ids_T) - batch.num_tokens < LENGTH_MULTIPLE
    assert (batch.num_tokens, batch.num_chars) == (sum(lengths), sum(lengths))
    assert batch.row_ids == tuple(f"row-{number}" for number in range(len(lengths)))
    ends = batch.ends.tolist()
    assert ends[0] == 0
    assert ends[-1] == len(batch.ids_T)
    assert max(end - start for start, end in itertools.pairwise(ends)) == batch.longest
    for number, document in enumerate(documents):
        start, end = ends[number : number + 2]
        assert batch.ids_T[start:end].tolist() == document.ids_T.tolist()
        assert batch.positions_T[start:end].tolist() == list(range(end - start))


@given(lengths=lengths_of_rows)
def test_labels_are_the_targets_each_predicted_from_the_place_before_it(lengths: list[int]) -> None:
    documents = make_documents(lengths)
    batch = collate(documents)
    wanted = [token for each in documents for token in each.ids_T[each.is_target_T].tolist()]
    assert batch.labels_N.tolist() == wanted
    assert batch.ids_T[batch.answered_N + 1].tolist() == wanted
    # The last token of a document predicts nothing.
    assert not {end - 1 for end in batch.ends.tolist()} & set(batch.answered_N.tolist())


@given(lengths=lengths_of_rows, num_processes=st.integers(1, 4))
@settings(deadline=None)
def test_processes_share_each_step_and_meet_as_often(lengths: list[int], num_processes: int) -> None:
    documents, rows = make_documents(lengths), list(range(len(lengths)))[::-1]
    shares = [
        make_batches(documents, rows, capacity=CAPACITY, process=process, num_processes=num_processes)
        for process in range(num_processes)
    ]
    assert len({len(share) for share in shares}) == 1
    batches = [batch for share in shares for batch in share]
    assert sorted(row_id for batch in batches for row_id in batch.row_ids) == sorted(each.row_id for each in documents)
    assert sum(batch.num_tokens for batch in batches) == sum(lengths)
    assert sum(len(batch.labels_N) for batch in batches) == sum(int(each.is_target_T.sum()) for each in documents)


def test_a_process_without_rows_still_reads_a_batch_that_teaches_nothing() -> None:
    second = make_batches(make_documents([9]), [0], capacity=CAPACITY, process=1, num_processes=2)
    assert [(batch.row_ids, batch.num_tokens, len(batch.labels_N)) for batch in second] == [((), 0, 0)]
    assert len(second[0].ids_T) > 0


def test_a_document_longer_than_a_batch_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="no example is longer than a batch"):
        pack([CAPACITY + 1], capacity=CAPACITY)
