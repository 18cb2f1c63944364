"""Formats of seeds, reasoned answers, questions and documents; and real files where they are at hand."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from format_records import ALIGN_BENCH, MT_BENCH, VICUNA, talk, why
from hypothesis import given
from hypothesis import strategies as st

from baihua.chat.types import Message
from baihua.data.drafts import Draft, check_turns
from baihua.data.formats import alpaca, auto, cot, questions, seed_tasks, sharegpt, text

# Seeds


def test_a_seed_gives_a_conversation_per_instance_and_remembers_its_task() -> None:
    found = seed_tasks.convert(seed_tasks.EXAMPLE, seed_tasks.Config())
    assert [[m.text for m in draft.messages] for draft in found] == [
        ["写出下面词语的反义词\n光明", "黑暗"],
        ["写出下面词语的反义词\n勇敢", "胆怯"],
    ]
    assert found[1].meta == {"seed": "seed_task_0", "name": "antonym", "is_classification": False}


@pytest.mark.parametrize("nothing", ["", " ", "<noinput>", "<noInput>", "<无输入>", None])
def test_a_seeds_missing_input_is_none_however_it_is_written(nothing: str | None) -> None:
    record = {"instruction": "写诗", "instances": [{"input": nothing, "output": "春眠不觉晓"}]}
    (draft,) = seed_tasks.convert(record, seed_tasks.Config())
    assert draft.messages[0] == Message("user", "写诗", None)


@pytest.mark.parametrize(
    ("instances", "reason", "detail"),
    [
        ([], "no_instances", "expected a list with an instance under 'instances'; found []"),
        ([{"output": "x"}, "y"], "not_a_message", "expected an instance with input and output, found 'y'"),
        ([{"input": "x"}], "no_text", "expected text under 'output'; the keys are: input"),
    ],
)
def test_a_seed_that_is_none_says_why(instances: Any, reason: str, detail: str) -> None:
    record = {"instruction": "a", "instances": instances}
    assert why(seed_tasks, record) == (reason, detail)


# Reasoned answers

TEXTS = st.text(min_size=1, max_size=20).map(str.strip).filter(bool)


@given(TEXTS, TEXTS, TEXTS, st.integers(0, 50))
def test_the_phrases_hold_all_of_a_reasoned_answer(question: str, rationale: str, answer: str, seed: int) -> None:
    record = {"question": question, "rationale": rationale, "answer": answer}
    (_, asked), (_, replied) = talk(cot.convert(record, cot.Config(seed=seed)))
    assert question in asked
    assert 0 <= replied.find(rationale) <= replied.rfind(answer)


@given(TEXTS, st.integers(0, 50))
def test_the_same_seed_and_question_draw_the_same_phrases(question: str, seed: int) -> None:
    first = cot.EXAMPLE | {"question": question}
    config = cot.Config(seed=seed)
    assert cot.convert(first, config) == cot.convert(first | {"id": 7}, config)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_all_phrases_are_drawn_about_equally(language: str) -> None:
    config = cot.Config.model_validate({"language": language})
    draws = [cot.convert(cot.EXAMPLE | {"question": f"{i}?"}, config)[0].messages[0].content for i in range(800)]
    shapes = Counter(asked.replace(f"{i}?", "{question}") for i, asked in enumerate(draws))
    assert sorted(shapes) == sorted(ask for ask, _ in cot.TEMPLATES[language])
    assert len(shapes) >= 6
    # 800 draws of 8: 100 each, standard deviation 9.4; four of them.
    assert all(abs(count - 800 / len(shapes)) < 38 for count in shapes.values())


def test_another_seed_draws_other_phrases() -> None:
    asked = {talk(cot.convert(cot.EXAMPLE, cot.Config(seed=seed)))[0][1] for seed in range(20)}
    assert len(asked) > 1


@pytest.mark.parametrize(("question", "language"), [("3盒铅笔共多少支？", "zh"), ("How many pencils?", "en")])
def test_the_phrases_speak_the_questions_language(question: str, language: str) -> None:
    asked = talk(cot.convert(cot.EXAMPLE | {"question": question}, cot.Config()))[0][1]
    assert asked in [ask.format(question=question) for ask, _ in cot.TEMPLATES[language]]


def test_a_missing_or_blank_rationale_is_bad() -> None:
    missing = {"question": "a", "answer": "b"}
    assert why(cot, missing) == (
        "no_text",
        "expected text under 'rationale'; the keys are: question, answer",
    )
    assert why(cot, missing | {"rationale": " "}) == ("empty_text", "'rationale' is blank")


def test_a_literal_backslash_n_is_left_for_a_filter() -> None:
    assert "a\\nb" in talk(cot.convert(cot.EXAMPLE | {"question": "a\\nb"}, cot.Config()))[0][1]


# Questions and documents


@pytest.mark.parametrize(
    ("record", "question", "meta"),
    [
        (questions.EXAMPLE, "中国的首都是哪里？", {"category": "open qa", "reference": "北京"}),
        (
            {"question": "x", "std_answer": " ", "class": "closed\xa0qa"},
            "x",
            {"category": "closed qa"},
        ),
        (VICUNA, "怎样管理时间？", {"question_id": 1, "category": "generic"}),
        (
            MT_BENCH,
            "写一封信",
            {
                "question_id": 81,
                "category": "writing",
                "reference": ["好", ""],
                "turns": ["写一封信", "写短些"],
            },
        ),
        (
            ALIGN_BENCH,
            "隋朝何时建立？",
            {"question_id": 7, "category": "专业能力", "subcategory": "历史", "reference": "581年"},
        ),
    ],
)
def test_a_question_stands_alone_and_the_rest_is_beside_it(
    record: dict[str, Any], question: str, meta: dict[str, Any]
) -> None:
    assert questions.convert(record, questions.Config()) == [
        Draft([Message("user", question)], meta=meta, is_answered=False)
    ]


def test_the_columns_of_questions_may_have_other_names() -> None:
    config = questions.Config(question="问", category="类", reference="答")
    record = {"问": "a", "类": "Open QA", "答": "b", "question": "c", "class": "d", "std_answer": "e"}
    assert questions.convert(record, config) == [
        Draft([Message("user", "a")], meta={"category": "open qa", "reference": "b"}, is_answered=False)
    ]


@pytest.mark.parametrize(
    ("record", "reason", "detail"),
    [
        ({"question": 3}, "no_text", "expected a question under 'question' or 'text' or 'turns'; found 3"),
        ({"turns": []}, "no_text", "expected a question under 'question' or 'text' or 'turns'; found []"),
        ({"turns": ["x", " "]}, "empty_text", "the question is blank"),
        ({"question": "x", "class": 3}, "no_text", "expected text under 'class'; found 3"),
        ({"question": "x", "reference": {"a": 1}}, "no_text", "expected a reference answer under 'std_answer'"),
    ],
)
def test_a_question_that_is_none_says_why(record: dict[str, Any], reason: str, detail: str) -> None:
    found = why(questions, record)
    assert (found[0], detail in found[1]) == (reason, True)


@pytest.mark.parametrize("name", ["closed qa", "closed\xa0QA", "  Closed \u3000 ＱＡ"])
def test_spellings_of_a_category_join(name: str) -> None:
    assert questions.normalise_category(name) == "closed qa"


def test_an_answer_to_a_numbered_question_is_neither_a_question_nor_a_document() -> None:
    assert auto.detect([{"answer_id": "a", "question_id": 1, "model_id": "m", "text": "x"}]) is None


def test_a_document_is_its_text() -> None:
    assert text.convert({"content": "正文"}, text.Config(column="content")) == [Draft(text="正文")]
    assert why(text, {"text": 3}) == ("no_text", "expected text under 'text'; found 3")


# Real files


@pytest.fixture
def shared() -> Path:
    """The folder of real data beside the project."""
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data beside the project is missing")
    return folder


def read_json(file: Path, limit: int | None = None) -> list[dict[str, Any]]:
    """The records of a JSON array or of JSON Lines, whatever the file is called."""
    content = (gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()).decode()
    if content.lstrip().startswith("["):
        return json.loads(content)[:limit]
    # Not splitlines: a string of JSON may hold the other line ends of Unicode.
    return [json.loads(line) for line in content.split("\n")[:limit] if line.strip()]


@pytest.mark.shared
def test_belles_thousand_questions_have_their_classes_and_each_has_its_prompt(shared: Path) -> None:
    records = read_json(shared / "belle/eval_set.json")
    assert auto.detect(records) == "questions"
    classes = [questions.convert(record, questions.Config())[0].meta["category"] for record in records]
    assert Counter(classes) == {
        "open qa": 285,
        "brainstorming": 179,
        "rewrite": 131,
        "generation": 98,
        "math": 75,
        "classification": 65,
        "closed qa": 52,
        "summarization": 40,
        "code": 38,
        "extract": 37,
    }
    prompts = {questions.normalise_category(row["class"]) for row in read_json(shared / "belle/eval_prompt.json")}
    assert [name for name in classes if name not in prompts] == []


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "num_questions", "num_longer"),
    [("vicuna/question.jsonl", 80, 0), ("vicuna_bench/question.jsonl", 80, 0), ("mt_bench/question.jsonl", 80, 80)],
)
def test_the_questions_of_vicuna_and_mt_bench_are_read(
    shared: Path, file: str, num_questions: int, num_longer: int
) -> None:
    records = read_json(shared / file)
    assert auto.detect(records) == "questions"
    found = [draft for record in records for draft in questions.convert(record, questions.Config())]
    assert [draft.meta["question_id"] for draft in found] == [record["question_id"] for record in records]
    assert (len(found), sum("turns" in draft.meta for draft in found)) == (num_questions, num_longer)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "num_without_input"), [("stanford-alpaca/seed_tasks.jsonl", 50), ("belle/zh_seed_tasks.json", 49)]
)
def test_the_175_seeds_are_read(shared: Path, file: str, num_without_input: int) -> None:
    records = read_json(shared / file)
    assert auto.detect(records) == "seed_tasks"
    found = [draft for record in records for draft in seed_tasks.convert(record, seed_tasks.Config())]
    assert (len(found), sum(draft.meta["is_classification"] for draft in found)) == (175, 26)
    assert sum(draft.messages[0].input is None for draft in found) == num_without_input


@pytest.mark.shared
def test_the_500_dummy_conversations_are_sharegpt(shared: Path) -> None:
    records = read_json(shared / "vicuna/dummy_conversation.json")
    assert (len(records), auto.detect(records)) == (500, "sharegpt")
    found = [draft for record in records for draft in sharegpt.convert(record, sharegpt.Config())]
    for draft in found:
        check_turns(draft.messages)


@pytest.mark.shared
def test_the_reasoned_sets_are_alpaca_with_backslashes_as_they_came(shared: Path) -> None:
    files = sorted((shared / "alpaca-cot").glob("*_train.json"))
    by_file = [read_json(file) for file in files]
    assert {auto.detect(records[:100]) for records in by_file} == {"alpaca"}
    records = [record for records in by_file for record in records]
    found = [alpaca.convert(record, alpaca.Config())[0] for record in records]
    assert (len(found), sum("\\n" in draft.messages[0].content for draft in found)) == (25_970, 23_909)


@pytest.mark.shared
def test_the_set_in_two_languages_is_bilingual(shared: Path) -> None:
    assert auto.detect(read_json(shared / "alpaca-zh-en/bilingual_50k.jsonl.gz", 50)) == "bilingual"
