"""The filters that drop rows: each example goes the way it is listed, and each rule has a property of its own."""

import gzip
import json
import string
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import daft
import pytest
from daft.expressions import ExpressionsProjection
from daft.recordbatch import RecordBatch
from hypothesis import given
from hypothesis import strategies as st
from lingua import Language
from pydantic import ValidationError

from baihua.chat import zh
from baihua.chat.types import Message
from baihua.core.config import Base
from baihua.data.clean.contract import Drop, DropWhere, Keep
from baihua.data.filters import column, empty, han_share, language, length, refusal, repetition, turns
from baihua.data.rows import Row

EXPRESSIONS = [empty, length, han_share, refusal]
CHECKS = [language, repetition]
BILINGUAL = Path(__file__).parents[3] / "shared/data/alpaca-zh-en/bilingual_50k.jsonl.gz"

LETTERS = st.characters(categories=["Lo", "Ll"])
# Python's tables and those of the expressions may be of different Unicode versions: only what both know is compared.
KNOWN = st.text(st.characters(exclude_categories=["Cn", "Cs", "Co"]))


def ask(verdict: DropWhere, texts: list[str]) -> list[tuple[bool, Any]]:
    """Whether each text goes, and the detail."""
    columns = [verdict.condition.alias("goes"), verdict.detail.alias("detail")]
    batch = RecordBatch.from_pydict({"text": texts})
    found = batch.eval_expression_list(ExpressionsProjection(columns)).to_pydict()
    return list(zip(found["goes"], found["detail"], strict=True))


def drops(module: ModuleType, config: Base, text: str) -> bool:
    """Whether an expression filter drops one text."""
    return ask(module.check_column(daft.col("text"), config), [text])[0][0]


def examples(modules: list[ModuleType], kind: str) -> list[Any]:
    return [
        pytest.param(module, text, id=f"{module.__name__.rsplit('.', 1)[-1]}-{text[:12]!r}")
        for module in modules
        for text in module.__dict__[kind]
    ]


@pytest.mark.parametrize(("module", "text"), examples(EXPRESSIONS, "KEPT"))
def test_expression_keeps_its_examples(module: ModuleType, text: str) -> None:
    assert not drops(module, module.Config(), text)


@pytest.mark.parametrize(("module", "text"), examples(EXPRESSIONS, "DROPPED"))
def test_expression_drops_its_examples(module: ModuleType, text: str) -> None:
    assert drops(module, module.Config(), text)


@pytest.mark.parametrize(("module", "text"), examples(CHECKS, "KEPT"))
def test_check_keeps_its_examples(module: ModuleType, text: str) -> None:
    assert module.check_text(text, module.Config()) == Keep()


@pytest.mark.parametrize(("module", "text"), examples(CHECKS, "DROPPED"))
def test_check_drops_its_examples(module: ModuleType, text: str) -> None:
    assert isinstance(module.check_text(text, module.Config()), Drop)


# ---- empty


@given(KNOWN)
def test_a_text_is_empty_exactly_when_python_finds_no_letter_or_digit(text: str) -> None:
    assert drops(empty, empty.Config(), text) is not any(unicodedata.category(char)[0] in "LN" for char in text)


# ---- length and turns


@given(st.text(), st.integers(0, 10), st.integers(1, 10))
def test_length_counts_characters_as_python_does(text: str, least: int, most: int) -> None:
    config = length.Config(minimum_chars=least, maximum_chars=most)
    assert drops(length, config, text) is not (least <= len(text) <= most)


def test_length_tells_the_number_of_characters() -> None:
    verdict = length.check_column(daft.col("text"), length.Config())
    assert (verdict.reason, ask(verdict, ["你好，𠀀!"])) == ("length", [(False, "5 characters")])


def row_of(messages: Sequence[Message] = (), meta: dict[str, Any] | None = None) -> Row:
    return Row("1", tuple(messages), meta=meta or {})


def conversation(num_turns: int) -> list[Message]:
    return [Message("system", "请简短。")] + [Message("user", "问"), Message("assistant", "答")] * num_turns


@pytest.mark.parametrize(
    ("num_turns", "verdict"),
    [
        (1, Drop("too_few_turns", "1 of at least 2")),
        (2, Keep()),
        (3, Keep()),
        (4, Drop("too_many_turns", "4 of at most 3")),
    ],
)
def test_turns_are_those_of_the_user(num_turns: int, verdict: Keep | Drop) -> None:
    assert turns.check_row(row_of(conversation(num_turns)), turns.Config(minimum_turns=2, maximum_turns=3)) == verdict


@pytest.mark.parametrize("messages", turns.KEPT)
def test_turns_keeps_its_examples(messages: list[Message]) -> None:
    assert turns.check_row(row_of(messages), turns.Config()) == Keep()


@pytest.mark.parametrize("messages", turns.DROPPED)
def test_turns_drops_its_examples(messages: list[Message]) -> None:
    assert isinstance(turns.check_row(row_of(messages), turns.Config()), Drop)


# ---- han_share


@given(st.text(st.one_of(st.characters(exclude_categories=["Cn", "Cs", "Co"]), st.sampled_from("中々〇ー豈𠀀aあ1，"))))
def test_han_share_is_that_of_chat_zh(text: str) -> None:
    verdict = han_share.check_column(daft.col("text"), han_share.Config(minimum=0.5))
    assert ask(verdict, [text]) == [(zh.han_share(text) < 0.5, pytest.approx(zh.han_share(text), abs=0.0051))]


def test_han_share_has_an_upper_bound_too() -> None:
    verdict = han_share.check_column(daft.col("text"), han_share.Config(minimum=0.2, maximum=0.8))
    assert ask(verdict, ["全是中文", "中文ab", "abcde"]) == [(True, 1.0), (False, 0.5), (True, 0.0)]


# ---- language


def test_language_names_what_it_saw() -> None:
    assert language.check_text(language.DROPPED[1], language.Config()) == Drop("other_language", "ja 1.00")


def test_a_kept_language_stays_even_if_it_is_not_among_the_candidates() -> None:
    config = language.Config(keep=["ja"], languages=["zh", "en"])
    assert language.check_text(language.DROPPED[1], config) == Keep()
    assert isinstance(language.check_text(language.KEPT[0], config), Drop)


def test_a_short_text_stays_whatever_its_language() -> None:
    text = language.DROPPED[0]
    num_letters = sum(map(str.isalpha, text))
    assert language.check_text(text, language.Config(minimum_chars=num_letters + 1)) == Keep()
    assert isinstance(language.check_text(text, language.Config(minimum_chars=num_letters)), Drop)


def test_an_unsure_verdict_keeps() -> None:
    text = "Prompt: Chat Server, Plan A"
    assert language.check_text(text, language.Config()) == Keep()
    assert isinstance(language.check_text(text, language.Config(minimum_confidence=0)), Drop)


def test_the_known_codes_are_those_of_lingua() -> None:
    assert sorted(code.iso_code_639_1.name.lower() for code in Language.all()) == language.CODES


def test_an_unknown_code_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValidationError, match=r"unknown language 'zh-cn'; did you mean .* \(known: af, ar, .*zh, zu\)"):
        language.Config(keep=["zh-cn"])


# ---- repetition


@given(
    before=st.text(max_size=70),
    unit=st.text(LETTERS, min_size=1, max_size=20),
    more=st.integers(0, 5),
    after=st.text(max_size=70),
)
def test_a_run_is_found_wherever_it_stands(before: str, unit: str, more: int, after: str) -> None:
    num_repeats = max(8, -(-60 // len(unit))) + more
    assert repetition.find_run(before + unit * num_repeats + after, 8) is not None


@given(st.text(string.digits + string.punctuation + " \n。，…—═·", min_size=1, max_size=20), st.integers(1, 60))
def test_rules_and_numbers_are_no_run(unit: str, num_repeats: int) -> None:
    assert repetition.find_run(unit * num_repeats, 3) is None


@given(st.text(LETTERS, min_size=1, max_size=20), st.integers(1, 7))
def test_a_few_repeats_are_no_run(unit: str, num_repeats: int) -> None:
    unit = f"{unit}{len(unit):02d}"  # letters, then a number: it has no shorter unit inside
    assert repetition.find_run(unit * num_repeats, 8) is None


def test_a_run_is_reported_with_its_unit_and_count() -> None:
    verdict = repetition.check_text("答：" + "很好，" * 25, repetition.Config())
    assert verdict == Drop("repetition", "'很好，' 25 times in a row")


def test_a_long_periodic_text_is_read_once() -> None:
    # Numbers are never a run, so every place is visited; a quadratic search would take minutes.
    assert repetition.find_run("12" * 1_000_000, 8) is None


def test_repeated_sentences_are_counted_by_characters() -> None:
    text = "一二三四五六七八。" * 7 + "甲乙丙丁戊己庚辛。" * 2 + "子丑寅卯辰巳午未申酉戌亥。" * 2
    assert repetition.share_of_repeated_sentences(text) == pytest.approx((6 * 8 + 8 + 12) / (7 * 8 + 2 * 8 + 2 * 12))


def test_a_list_that_says_one_thing_under_many_numbers_goes() -> None:
    verdict = repetition.check_text("\n".join(f"{n}. 保持健康的心态" for n in range(1, 30)), repetition.Config())
    assert verdict == Drop("repetition", "0.97 in repeated sentences, 0.20 in repeated pieces")


def test_repeated_pieces_show_a_loop_without_sentences() -> None:
    verdict = repetition.check_text(repetition.DROPPED[-1], repetition.Config())
    assert verdict == Drop("repetition", "0.00 in repeated sentences, 0.87 in repeated pieces")


def test_a_loop_in_a_fence_that_never_closes_goes() -> None:
    assert isinstance(repetition.check_text("```\n" + "print(a)\n" * 200, repetition.Config()), Drop)


def test_the_bounds_can_be_tightened() -> None:
    refrain = "春风吹过山岗，我在路上歌唱\n花儿开在心上\n"
    song = "".join(f"{verse}\n{refrain}" for verse in ["山高水又长", "月亮照池塘", "牛羊下了岗", "孩子入梦乡"])
    assert repetition.check_text(song, repetition.Config()) == Keep()
    assert isinstance(repetition.check_text(song, repetition.Config(maximum_sentences=0.3)), Drop)


# ---- refusal


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n很抱歉，我无法提供医疗建议，请咨询医生。", "很抱歉，我无法提供"),
        ("<无输出>", "<无输出"),
        ("I'm sorry, but I can't assist with that.", "I'm sorry, but I can't assist"),
    ],
)
def test_a_refusal_is_reported_by_its_words(text: str, words: str) -> None:
    assert ask(refusal.check_column(daft.col("text"), refusal.Config()), [text]) == [(True, words)]


@given(st.sampled_from(refusal.DROPPED))
def test_a_refusal_counts_only_at_the_opening(words: str) -> None:
    assert not drops(refusal, refusal.Config(), f"这是一个例子：{words}")


# ---- column


@pytest.mark.parametrize("meta", column.KEPT)
def test_column_keeps_its_examples(meta: dict[str, Any]) -> None:
    assert column.check_row(row_of(meta=meta), column.EXAMPLE) == Keep()


@pytest.mark.parametrize(
    ("meta", "verdict"),
    [
        (column.DROPPED[0], Drop("below_minimum", "metadata.score = 1")),
        (column.DROPPED[1], Drop("above_maximum", "metadata.score = 6")),
        (column.DROPPED[2], Drop("not_a_number", "metadata.score = '好'")),
        (column.DROPPED[3], Drop("no_value", "metadata.score")),
        (column.DROPPED[4], Drop("no_value", "metadata.score")),
    ],
)
def test_column_says_why_its_examples_go(meta: dict[str, Any], verdict: Drop) -> None:
    assert column.check_row(row_of(meta=meta), column.EXAMPLE) == verdict


@pytest.mark.parametrize("value", [True, "4", float("nan"), [4]])
def test_what_is_no_number_is_never_compared(value: object) -> None:
    verdict = column.check_row(row_of(meta={"score": value}), column.Config(name="score"))
    assert verdict == Drop("not_a_number", f"score = {value!r}")


@pytest.mark.parametrize("meta", [{}, {"score": None}])
def test_a_missing_value_stays_if_asked(meta: dict[str, Any]) -> None:
    assert column.check_row(row_of(meta=meta), column.Config(name="score", minimum=3, missing="keep")) == Keep()


# ---- real answers


@pytest.fixture(scope="module")
def answers() -> list[str]:
    """The first 5,000 Chinese answers of the shared bilingual file."""
    if not BILINGUAL.exists():
        pytest.skip(f"the shared data is not here: {BILINGUAL}")
    with gzip.open(BILINGUAL, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["zh_output"] for line, _ in zip(lines, range(5_000), strict=False)]


@pytest.mark.shared
def test_only_broken_answers_repeat_themselves(answers: list[str]) -> None:
    dropped = [text for text in answers if repetition.check_text(text, repetition.Config()) != Keep()]
    # Each holds nearly two hundred combining marks in a row.
    assert [text.count("\u0326") > 150 for text in dropped] == [True, True, True]


@pytest.mark.shared
def test_answers_that_apologise_to_a_customer_are_no_refusals(answers: list[str]) -> None:
    found = ask(refusal.check_column(daft.col("text"), refusal.Config()), answers)
    assert sum("抱歉" in text for text in answers) >= 5
    assert [detail for goes, detail in found if goes] == ["<无输出"]
