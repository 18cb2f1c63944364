"""Identity rows: many wordings, the right name in each, and nothing said of others that is only true of the chatbot."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from baihua.core import kinds
from baihua.data.drafts import check_turns
from baihua.data.made.identity_rows import IdentityTemplate, Language, is_contrast, make_rows, read_templates
from baihua.data.read.files import STARTER_FOLDER
from baihua.data.rows import Row, read_rows

STAGE = kinds.find("baihua.stages", "identity")
LANGUAGES: tuple[Language, ...] = ("zh", "en")
TEMPLATES = [template for language in LANGUAGES for template in read_templates(language)]
OWN = [template for template in TEMPLATES if not template.contrast]


def rows_of(name: str = "白话", maker: str = "白话小组", **fields: Any) -> list[Row]:
    return make_rows(TEMPLATES, name=name, maker=maker, **fields)


def bare(text: str) -> str:
    """A wording without marks and case."""
    return re.sub(r"\W", "", text).casefold()


def first_questions(templates: list[IdentityTemplate]) -> list[str]:
    return [question for template in templates for question in template.turns[0]]


@pytest.mark.parametrize(("language", "smallest"), [("zh", 100), ("en", 60)])
def test_there_are_many_wordings_and_a_quarter_is_contrast(language: Language, smallest: int) -> None:
    own = [question for question in first_questions(OWN) if question in first_questions(read_templates(language))]
    assert len(own) >= smallest
    assert 0.2 <= 1 - len(own) / len(first_questions(read_templates(language))) <= 0.3


def test_no_wording_is_there_twice_or_elsewhere() -> None:
    wordings = first_questions(TEMPLATES)
    assert len(set(wordings)) == len(wordings)
    unseen = json.loads((Path(__file__).parent / "unseen_identity.json").read_text(encoding="utf-8"))["identity"]
    lines = (STARTER_FOLDER / "identity.jsonl").read_text(encoding="utf-8").splitlines()
    starter = [json.loads(line)["messages"][0]["content"] for line in lines]
    assert not set(map(bare, wordings)) & set(map(bare, unseen))
    # "Who are you?" is asked in English there too, and answered in Chinese.
    assert not set(first_questions(read_templates("zh"))) & set(starter)


def test_every_answer_can_be_said_in_three_ways() -> None:
    for template in TEMPLATES:
        assert len(template.turns) % 2 == 0
        assert all(len(set(answers)) >= 3 for answers in template.turns[1::2]), template


def test_who_asks_for_name_or_maker_gets_it() -> None:
    for template in OWN:
        wanted = {"maker": "{maker}"}.get(template.intent, "{name}")
        last = template.turns[-1] if template.intent != "human" or len(template.turns) == 2 else template.turns[3]
        assert sum(wanted in answer for answer in last) >= 2 / 3 * len(last), template


def test_contrast_rows_never_name_the_chatbot() -> None:
    contrast = [row for row in rows_of("甲乙丙", "丁戊己", num_answers=3) if is_contrast(row)]
    assert len(contrast) > 100
    assert not [row for row in contrast if "甲乙丙" in str(row.messages) or "丁戊己" in str(row.messages)]


@settings(max_examples=25, deadline=None)
@given(st.text("白话aB {}name", min_size=1, max_size=9), st.integers(0, 9), st.integers(1, 3))
def test_every_row_is_a_good_conversation_with_nothing_left_to_fill(name: str, seed: int, num_answers: int) -> None:
    rows = rows_of(f"<{name}>", num_answers=num_answers, seed=seed)
    for row in rows:
        check_turns(row.messages)
    assert len({row.id.split("-")[0] for row in rows}) == len(rows) == num_answers * len(first_questions(TEMPLATES))
    left = str([m.content.replace(f"<{name}>", "") for row in rows for m in row.messages])
    assert not re.search(r"\{(name|maker|other)\}", left)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99))
def test_the_chatbot_is_never_asked_whether_it_is_itself(seed: int) -> None:
    rows = rows_of("Kimi", "百度在线", seed=seed)
    asked = "".join(m.content for row in rows if row.group == "identity-not-chatgpt" for m in row.messages[:1])
    assert "Kimi" not in asked
    assert "百度" not in "".join(row.messages[0].content for row in rows if row.group == "identity-maker")


def test_a_name_that_overlaps_all_others_leaves_those_questions_out() -> None:
    template = IdentityTemplate("zh", 1, "who", [["你是{other}吗？"], ["不是。"]], others=["甲", "乙"])
    assert make_rows([template], name="甲乙", maker="丙") == []


@pytest.mark.parametrize(("name", "wanted"), [("Bai", "我叫 Bai。我是 Bai 呀"), ("白话", "我叫白话。我是白话呀")])
def test_answers_have_a_space_between_han_and_latin(name: str, wanted: str) -> None:
    template = IdentityTemplate("zh", 1, "who", [["{name}是谁"], ["我叫{name}。我是{name}呀"]])
    question, answer = make_rows([template], name=name, maker="丙")[0].messages
    assert (question.content, answer.content) == (f"{name}是谁", wanted)


def test_wordings_of_an_intent_are_one_group_which_no_split_parts() -> None:
    rows = rows_of(num_answers=2)
    wordings = {row.messages[0].content for row in rows if row.group == "identity-who"}
    assert len(wordings) > 10
    assert 10 < len({row.group for row in rows}) < len(rows) / 2


def test_another_seed_draws_other_answers_to_the_same_questions() -> None:
    one, two = (rows_of(seed=seed) for seed in (1, 2))
    assert [row.line for row in one] == [row.line for row in two]
    assert 0.1 < sum(a.messages == b.messages for a, b in zip(one, two, strict=True)) / len(one) < 0.5


def test_the_stage_counts_what_it_made(tmp_path: Path) -> None:
    figures = STAGE.run(STAGE.Config(name=" 白话 ", maker="白话小组", languages=["zh"]), {}, tmp_path)
    rows = read_rows(tmp_path)
    assert {(row.source, row.meta["licence"], row.meta["language"]) for row in rows} == {("identity", "CC0-1.0", "zh")}
    assert len(rows) == figures["num_rows_kept"] == sum(figures["num_rows_added"].values())
    assert figures["num_rows_added"]["contrast"] == sum(map(is_contrast, rows))
    assert not [row for row in rows if " 白话" in str(row.messages)]
    assert (tmp_path / "dropped.parquet").is_file()


@pytest.mark.parametrize("key", ["name", "maker"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "the name is empty"),
        (" \u3000", "the name is empty"),
        ("白\n话", r"the name has the control character U\+000A"),
        ("白\u2028话", r"the name has the control character U\+2028"),
        ("\u202e白话", r"the name has the control character U\+202E"),
        ("白" * 61, "at most 60 characters"),
    ],
)
def test_a_name_that_cannot_be_said_is_refused(key: str, value: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        STAGE.Config(**({"name": "白话", "maker": "某人"} | {key: value}))
