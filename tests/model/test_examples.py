"""Conversations to examples: what is learnt of them, and where they are split.

T tokens.
"""

# ruff: noqa: N806  (names of tensors end with their shape)

import itertools
from pathlib import Path

import numpy as np
import pytest
import tiny
from conversations import ANSWERS, QUESTIONS, make_encoder, make_letters, make_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from baihua.chat.render import encode, render
from baihua.chat.template import TEMPLATES
from baihua.chat.types import Message
from baihua.core import kinds
from baihua.model.examples import Encoder, Example

NAMES = kinds.names(TEMPLATES)
TALK = [Message("user", "一"), Message("assistant", "甲。"), Message("user", "二"), Message("assistant", "乙😀！")]
SYSTEM = Message("system", "你是白话。")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("examples") / "tiny")


def target_bytes(example: Example, encoder: Encoder) -> bytes:
    return b"".join(map(encoder.tokenizer.token_bytes, example.ids_T[example.is_target_T].tolist()))


def test_targets_are_the_answers_with_their_ends(model: Path) -> None:
    encoder = make_encoder(model)
    example = encoder.encode("x", [Message("user", "问"), Message("assistant", "答。😀")])
    assert example.ids_T[example.is_target_T][-1] == encoder.tokenizer.controls["<|im_end|>"]
    assert target_bytes(example, encoder).decode() == "答。😀"
    assert (example.target_text.num_chars, example.target_text.num_bytes) == (3, 10)


@pytest.mark.parametrize("name", NAMES)
def test_the_last_answer_is_learnt_as_when_all_are_and_nothing_before_it(name: str) -> None:
    tokenizer, template = make_letters(name)
    every, last = (Encoder(tokenizer, template, train_on).encode("x", TALK) for train_on in ("answers", "last_answer"))
    # The oracle: what comes before the last answer is the prompt that asks for it.
    num_prompt_tokens = len(encode(render(TALK[:3], template, for_answer=True), tokenizer).ids)
    is_late_T = np.arange(len(every.ids_T)) >= num_prompt_tokens
    assert last.ids_T.tolist() == every.ids_T.tolist()
    assert last.is_target_T.tolist() == (every.is_target_T & is_late_T).tolist()
    learnt = tokenizer.text(last.ids_T[last.is_target_T].tolist())
    assert learnt.endswith(template.eos_token)
    learnt = learnt.removesuffix(template.eos_token)
    assert (learnt.strip(), last.target_text.num_chars) == ("乙😀！", len(learnt))


@pytest.mark.parametrize("name", NAMES)
def test_of_one_answer_the_last_is_all(name: str) -> None:
    masks = [
        Encoder(*make_letters(name), train_on).encode("x", TALK[:2]).is_target_T.tolist()
        for train_on in ("answers", "last_answer")
    ]
    assert masks[0] == masks[1]


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_all_but_the_first_token(name: str) -> None:
    tokenizer, template = make_letters(name)
    every, all_of_it = (
        Encoder(tokenizer, template, on).encode("x", [SYSTEM, *TALK]) for on in ("answers", "everything")
    )
    assert all_of_it.ids_T.tolist() == every.ids_T.tolist()
    assert all_of_it.is_target_T.tolist() == [False, *[True] * (len(every.ids_T) - 1)]
    assert all_of_it.target_text == all_of_it.text == every.text


turns = st.lists(
    st.tuples(st.sampled_from(QUESTIONS), st.integers(1, 4), st.sampled_from(ANSWERS), st.integers(1, 4)),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize("name", ["model", "alpaca", "vicuna"])
@given(turns=turns, has_system=st.booleans(), max_length=st.integers(30, 250), has_last=st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_split_conversation_keeps_whole_turns_in_order_with_the_system_message(
    model: Path, name: str, turns: list, has_system: bool, max_length: int, has_last: bool
) -> None:
    encoder, system = make_encoder(model, name), [SYSTEM] if has_system else []
    talk = [[Message("user", q * n), Message("assistant", a * m)] for q, n, a, m in turns]
    unanswered = [Message("user", "还有吗？")] if has_last else []
    whole = encoder.encode("x", [*system, *itertools.chain(*talk), *unanswered])
    pieces, num_left_out = encoder.split("x", [*system, *itertools.chain(*talk), *unanswered], max_length)
    assert all(len(piece.ids_T) <= max_length for piece in pieces)
    if len(whole.ids_T) <= max_length:
        assert [piece.ids_T.tolist() for piece in pieces] == [whole.ids_T.tolist()]
        return
    # The oracle: turns that fit alone, taken as long as they fit together.
    fitting = [turn for turn in talk if len(encoder.encode("x", [*system, *turn]).ids_T) <= max_length]
    assert num_left_out == len(talk) - len(fitting)
    wanted = group(encoder, system, talk, max_length)
    assert [piece.ids_T.tolist() for piece in pieces] == [each.ids_T.tolist() for each in wanted]
    assert [piece.is_target_T.tolist() for piece in pieces] == [each.is_target_T.tolist() for each in wanted]


def group(encoder: Encoder, system: list[Message], talk: list[list[Message]], max_length: int) -> list[Example]:
    """Conversations of as many following turns as fit; one that does not fit alone ends a conversation."""
    groups: list[list[list[Message]]] = [[]]
    for turn in talk:
        if len(encoder.encode("x", [*system, *turn]).ids_T) > max_length:
            groups.append([])
            continue
        together = encoder.encode("x", [*system, *itertools.chain(*groups[-1]), *turn])
        if len(together.ids_T) > max_length:
            groups.append([])
        groups[-1].append(turn)
    return [encoder.encode("x", [*system, *itertools.chain(*each)]) for each in groups if each]


def test_a_split_row_keeps_its_id(model: Path) -> None:
    [row] = make_rows(1, num_turns=6)
    pieces, _ = make_encoder(model).split(row.id, row.messages, 120)
    assert len(pieces) > 1
    assert {piece.row_id for piece in pieces} == {row.id}


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
