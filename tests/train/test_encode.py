"""Rows to examples: every row is kept, split or dropped for a reason, and what was made once is read again."""

import dataclasses
import os
import time
from pathlib import Path

import pytest
import tiny
from conversations import make_encoder, make_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from baihua.chat.types import Message
from baihua.core.errors import InputError
from baihua.data.rows import Row, write_rows
from baihua.model.examples import Encoder
from baihua.train.config import TrainingConfig
from baihua.train.examples.encode import SECONDS_KEPT, ExampleSet, load_examples, make_examples

WITHOUT_ANSWER = (Message("user", "没有回答"),)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return make_encoder(tiny.make(tmp_path_factory.mktemp("rows") / "tiny"))


def count_tokens(encoder: Encoder, row: Row) -> int:
    return len(encoder.encode(row.id, row.messages).ids_T)


@given(num_turns=st.lists(st.integers(1, 6), min_size=1, max_size=12), max_length=st.integers(90, 300))
@settings(max_examples=30, deadline=None)
def test_rows_and_turns_add_up_when_long_ones_are_split(
    encoder: Encoder, num_turns: list[int], max_length: int
) -> None:
    rows = [
        dataclasses.replace(make_rows(1, num_turns=number, seed=seed)[0], id=f"row-{seed}")
        for seed, number in enumerate(num_turns)
    ]
    try:
        found = make_examples(rows, encoder, max_length=max_length)
    except InputError as error:
        assert f"has no turn of at most {max_length:,} tokens" in error.what
        return
    assert max(len(example.ids_T) for example in found.kept) <= max_length
    assert all(example.is_target_T.any() for example in found.kept)
    assert found.num_rows_split == sum(count_tokens(encoder, row) > max_length for row in rows)
    end = encoder.tokenizer.controls["<|im_end|>"]
    num_answers = sum(int((example.ids_T[example.is_target_T] == end).sum()) for example in found.kept)
    assert num_answers + found.num_turns_left_out == sum(num_turns)
    assert found.num_rows == len(rows)


def test_the_statistics_add_up(encoder: Encoder) -> None:
    rows = [*make_rows(250, num_turns=2), *make_rows(1, num_turns=12, seed=5)]
    rows[7] = dataclasses.replace(rows[7], messages=WITHOUT_ANSWER)
    found = make_examples(rows, encoder, max_length=200)
    figures = found.statistics()
    assert (figures["num_rows_in"], figures["num_rows_kept"]) == (251, 250)
    assert figures["num_rows_dropped"] == {"no_answer": 1}
    assert figures["num_rows_split"] == sum(count_tokens(encoder, row) > 200 for row in rows) > 0
    assert figures["num_examples"] == len(found.kept) > 250
    assert figures["num_data_tokens"] == sum(len(example.ids_T) for example in found.kept)
    assert figures["longest_tokens"] == max(len(example.ids_T) for example in found.kept) <= 200
    num_targets = sum(int(example.is_target_T.sum()) for example in found.kept)
    assert figures["target_share"] == pytest.approx(num_targets / figures["num_data_tokens"])


def test_the_sentence_before_a_training_says_the_same(encoder: Encoder) -> None:
    rows = [*make_rows(250, num_turns=2), *make_rows(1, num_turns=12, seed=5)]
    rows[7] = dataclasses.replace(rows[7], messages=WITHOUT_ANSWER)
    found = make_examples(rows, encoder, max_length=200)
    figures = found.statistics()
    assert found.describe() == (
        f"{len(found.kept)} examples from 251 rows: {figures['num_data_tokens']:,} tokens, "
        f"{figures['target_share']:.0%} of them trained, the longest has {figures['longest_tokens']}; "
        f"rows split: {found.num_rows_split}, turns left out: {found.num_turns_left_out}, rows dropped: no_answer 1"
    )
    assert make_examples(rows[:5], encoder, max_length=900).describe().endswith("rows dropped: none")


def test_long_rows_are_dropped_and_counted_where_that_is_wanted(encoder: Encoder) -> None:
    rows = make_rows(30, num_turns=3)
    limit = sorted(count_tokens(encoder, row) for row in rows)[15]
    found = make_examples(rows, encoder, max_length=limit, over_long="drop")
    num_longer = sum(count_tokens(encoder, row) > limit for row in rows)
    assert (found.num_dropped, found.num_rows_split) == ({"too_long": num_longer}, 0)
    assert [example.row_id for example in found.kept] == [row.id for row in rows if count_tokens(encoder, row) <= limit]


def test_a_long_row_is_refused_with_its_line_where_that_is_wanted(encoder: Encoder) -> None:
    rows = [*make_rows(3), dataclasses.replace(make_rows(1, num_turns=9)[0], line=4)]
    with pytest.raises(InputError, match="this conversation has more than 120 tokens") as error:
        make_examples(rows, encoder, max_length=120, over_long="refuse")
    assert "where: talks.jsonl:4" in str(error.value)
    assert "fix:   raise `max_length`, or set `over_long` to split or drop" in str(error.value)


@pytest.mark.parametrize(
    ("over_long", "meaning", "fix"),
    [
        ("split", "has no turn of at most 10 tokens", "raise `max_length`, or set `over_long` to drop"),
        ("drop", "has more than 10 tokens", "raise `max_length`"),
    ],
)
def test_rows_that_are_all_too_long_are_one_error_that_names_the_limit(
    encoder: Encoder, over_long, meaning: str, fix: str
) -> None:
    with pytest.raises(InputError) as error:
        make_examples(make_rows(3), encoder, max_length=10, over_long=over_long)
    assert error.value.what == f"3 of 3 rows have no tokens to train; the first {meaning}"
    assert (error.value.where, error.value.fix) == ("talks.jsonl:1", fix)


def test_few_rows_without_an_answer_are_dropped_and_counted(encoder: Encoder) -> None:
    rows = make_rows(200)
    rows[7] = dataclasses.replace(rows[7], messages=WITHOUT_ANSWER)
    examples = make_examples(rows, encoder, max_length=512)
    assert (len(examples.kept), examples.num_dropped) == (199, {"no_answer": 1})


def test_many_rows_without_an_answer_are_an_error_that_names_the_first(encoder: Encoder) -> None:
    rows = make_rows(10)
    rows[3] = dataclasses.replace(rows[3], messages=WITHOUT_ANSWER)
    with pytest.raises(InputError) as error:
        make_examples(rows, encoder, max_length=512)
    assert error.value.what == "1 of 10 rows have no tokens to train; the first has no answer of the assistant"
    assert (error.value.where, error.value.fix) == ("talks.jsonl:4", "filter such rows out, or add their answers")


def test_no_rows_are_an_error(encoder: Encoder) -> None:
    with pytest.raises(InputError, match="there are no rows to train on") as error:
        make_examples([], encoder, max_length=512)
    assert "see what the filters dropped" in str(error.value)


def test_a_row_that_the_template_refuses_is_named(encoder: Encoder) -> None:
    template = dataclasses.replace(encoder.template, jinja="{{ messages[0]['content'] | trim }}<|im_end|>")
    rows = [dataclasses.replace(make_rows(1)[0], messages=(Message("assistant", " 空格 "),))]
    with pytest.raises(InputError, match="changes the message texts") as error:
        make_examples(rows, Encoder(encoder.tokenizer, template), max_length=512)
    assert "where: talks.jsonl:1" in str(error.value)


class Counting(Encoder):
    """An encoder that counts what it is asked for."""

    num_encoded = 0

    def encode(self, row_id, messages):
        self.num_encoded += 1
        return super().encode(row_id, messages)


class Kept:
    """A data artifact, a cache, and how to load from one through the other."""

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        self.data, self.cache = folder / "data", folder / "cache"
        self.encoder = encoder
        self.change_rows(make_rows(20, num_turns=3))

    def change_rows(self, rows: list[Row]) -> None:
        write_rows(rows, self.data)

    def load(self, **changes) -> tuple[ExampleSet, int]:
        """The examples, and how many conversations were tokenised for them."""
        template = dataclasses.replace(
            self.encoder.template, jinja=self.encoder.template.jinja + changes.pop("jinja", "")
        )
        encoder = Counting(self.encoder.tokenizer, template, changes.pop("train_on", "answers"))
        vocabulary, over_long = changes.pop("vocabulary", "v"), changes.pop("over_long", "split")
        config = TrainingConfig(**{"max_length": 150, "examples": {"over_long": over_long}} | changes)
        return load_examples(self.data, encoder, config, vocabulary, cache=self.cache), encoder.num_encoded

    def files(self) -> list[Path]:
        return sorted(self.cache.iterdir())


@pytest.fixture
def kept(tmp_path: Path, encoder: Encoder) -> Kept:
    return Kept(tmp_path, encoder)


def equal(one: ExampleSet, other: ExampleSet) -> bool:
    """Whether two sets of examples have the same fields, arrays by value and type."""

    def plain(examples: ExampleSet) -> list:
        arrays = [[(array.dtype, array.tolist()) for array in (e.ids_T, e.is_target_T)] for e in examples.kept]
        parts = [arrays, [[e.row_id, e.text, e.target_text, e.is_cut] for e in examples.kept]]
        return [parts, dataclasses.replace(examples, kept=[])]

    return plain(one) == plain(other)


def test_examples_are_made_once_and_read_again(kept: Kept) -> None:
    made, num_made = kept.load()
    read, num_read = kept.load()
    assert num_made > 0 == num_read
    assert equal(made, read)
    assert made.num_rows_split > 0


CHANGES = [
    {"vocabulary": "another tokenizer"},
    {"jinja": "{# another template #}"},
    {"train_on": "last_answer"},
    {"max_length": 151},
    {"over_long": "drop"},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_whatever_decides_the_examples_makes_them_anew(kept: Kept, change: dict) -> None:
    kept.load()
    assert kept.load(**change)[1] > 0
    assert len(kept.files()) == 2
    assert kept.load()[1] == 0


def test_other_rows_are_made_anew(kept: Kept) -> None:
    kept.load()
    kept.change_rows(make_rows(20, num_turns=3, seed=1))
    assert kept.load()[1] > 0


def truncate(data: bytes) -> bytes:
    return data[:-9]


def flip_a_bit(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def flip_a_bit_in_the_middle(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


def empty(data: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, flip_a_bit_in_the_middle, empty])
def test_a_damaged_file_is_made_anew_with_a_warning(kept: Kept, damage, caplog: pytest.LogCaptureFixture) -> None:
    wanted, _ = kept.load()
    [file] = kept.files()
    file.write_bytes(damage(file.read_bytes()))
    found, num_made = kept.load()
    assert num_made > 0
    assert equal(found, wanted)
    assert f"the cached examples are damaged and are made again: {file}" in caplog.text
    assert kept.load()[1] == 0


def test_what_nobody_used_for_a_month_makes_room(kept: Kept) -> None:
    kept.load()
    kept.load(max_length=160)
    for file in kept.files():
        os.utime(file, (time.time() - SECONDS_KEPT - 60,) * 2)
    # Reading a file is using it.
    assert kept.load()[1] == 0
    kept.load(max_length=170)
    assert len(kept.files()) == 2
    assert kept.load()[1] == 0
