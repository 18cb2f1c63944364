"""Filters that look at one row: what stays, what goes, and that nothing is lost on the way."""

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from baihua.chat.types import Message
from baihua.core.artifact import hash_file
from baihua.core.errors import InputError
from baihua.data.clean.contract import Change, Drop, Keep, Split
from baihua.data.clean.texts import grams, normalise
from baihua.data.filters import decontaminate, other_identity, split_long, topic
from baihua.data.read.files import STARTER_FOLDER
from baihua.data.rows import Row


def row_of(messages: Sequence[Message], row_id: str = "1") -> Row:
    return Row(row_id, tuple(messages))


def talk(*texts: str) -> list[Message]:
    """A conversation of these questions and answers in turn."""
    return [Message("assistant" if number % 2 else "user", text) for number, text in enumerate(texts)]


def document(text: str) -> list[Message]:
    return [replace(Message("user", text), role="document")]


@pytest.fixture
def shared() -> Path:
    """The folder of real data beside the project."""
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data beside the project is missing")
    return folder


# The examples of each filter


@pytest.mark.parametrize("module", [other_identity, decontaminate])
def test_the_examples_hold(module: ModuleType) -> None:
    config = module.EXAMPLE if module is decontaminate else module.Config()
    assert {module.check_row(row_of(row), config) for row in module.KEPT} == {Keep()}
    assert {type(module.check_row(row_of(row), config)) for row in module.DROPPED} == {Drop}


def test_the_examples_of_what_changes_hold() -> None:
    for row, wanted in other_identity.CHANGED:
        assert other_identity.check_row(row_of(row), other_identity.Config()) == Change(wanted)


@pytest.mark.parametrize("num_more", [0, 3])
def test_the_examples_of_cutting_hold_for_either_way_of_counting(num_more: int) -> None:
    def check(row: list[Message]) -> Keep | Drop | Split:
        return split_long.check_row(
            row_of(row),
            split_long.EXAMPLE,
            count_tokens=lambda row: sum(len(message.text) + num_more for message in row),
        )

    assert {check(row) for row in split_long.KEPT} == {Keep()}
    assert {type(check(row)) for row in split_long.DROPPED} == {Drop}
    assert [check(row) for row, _ in split_long.SPLIT] == [Split(parts) for _, parts in split_long.SPLIT]


# Character n-grams


@given(st.text(max_size=30), st.integers(1, 6))
def test_a_text_holds_each_of_its_grams_and_they_cover_it(text: str, n: int) -> None:
    found = grams(text, n)
    assert all(gram in text and len(gram) == min(n, len(text)) for gram in found)
    assert set("".join(found)) == set(text)


@given(st.text(max_size=30))
def test_normal_text_is_of_letters_and_digits(text: str) -> None:
    assert normalise(text) == "" or normalise(text).isalnum()


def test_width_case_and_punctuation_make_no_difference() -> None:
    assert normalise("Ｈｅｌｌｏ，　世界！１２") == normalise("hello 世界12") == "hello世界12"


# other_identity

CLAIMS = [
    ("你好", "你好！我是ChatGPT，由OpenAI开发的大型语言模型。"),
    ("你好", "我是一个由百度研发的人工智能语言模型，我的名字是文心一言。"),
    ("你好", "我叫通义千问，是阿里云研发的。"),
    ("写首诗", "作为一个由OpenAI训练的AI语言模型，我无法上网。"),
    ("写首诗", "作为OpenAI的语言模型，我不能写诗。"),
    ("你好", "我是MOSS，复旦大学开发的对话式语言模型。"),
    ("你好", "我是讯飞星火认知大模型。"),
    ("你好", "我是 ChatGLM-6B。"),
    ("你好", "我是谷歌的人工智能助手。"),
    ("你好", "我是由星辰科技公司开发的大语言模型。"),
    ("你是基于什么的？", "我是基于GPT-4架构的语言模型。"),
    ("你的开发者是谁", "我的开发者是智谱公司。"),
    ("你叫什么名字？", "Claude。"),
    ("谁训练了你", "OpenAI训练了我。"),
    ("你是ChatGPT吗？", "是的，我是。"),
    ("Hi", "As an AI language model developed by OpenAI, I cannot do that."),
    ("Hi", "I am a large language model trained by Acme Labs."),
    ("Hi", "I am Claude, an AI assistant made by Anthropic."),
    ("Hi", "I'm Bard, a large language model."),
    ("Hi", "You can call me Vicuna, and I was trained by LMSYS researchers."),
    ("Hi", "I am Google's AI assistant."),
    ("Hi", "I was created by Meta AI."),
    ("Hi", 'The word "model" fits: I am "ChatGPT", a "program".'),
    ("Who made you?", "OpenAI."),
    ("Who created you?", "My creators are researchers from Large Model Systems Organization (LMSYS)."),
    ("Are you GPT-4?", "Yes, I am."),
]
OTHERS = [
    ("介绍一下ChatGPT", "ChatGPT是OpenAI开发的模型，我可以介绍它。"),
    ("你是否知道ChatGPT？", "ChatGPT是OpenAI开发的。"),
    ("写一封求职信", "我是谷歌的一名软件工程师，我热爱编程。"),
    ("写一封求职信", "我在百度工作，负责开发搜索系统。"),
    ("写一篇短文", "我是ChatGPT的忠实用户。"),
    ("写一篇短文", "我叫ChatGPT写了一首诗。"),
    ("写一篇短文", "我被谷歌开发的系统吸引了。"),
    ("写一篇短文", "小明说：“我是ChatGPT。”"),
    ("你好", "我是一个语言模型，没有感情。"),
    ("你是文心一言吗？", "我不是文心一言。"),
    ("你是 Claude 吗？", "对不起，我不清楚。"),
    ("假设你是ChatGPT，自我介绍。", "我是ChatGPT，由OpenAI训练。"),
    ("翻译：我是文心一言", "I am ERNIE Bot."),
    ("你好", "我是白话，一个基于 LLaMA 的中文助手。"),
    ("Hi", "As an AI language model, I do not have feelings."),
    ("Hi", "I am a language model trained by a team of researchers."),
    ("Hi", "Using tools such as ChatGPT, I write letters as a software engineer at Google."),
    ("Hi", "I'm a Gemini, born in June, and I was trained by my manager at Google."),
    ("Are you ChatGPT?", "No, I am not ChatGPT."),
    ("What are you doing?", "Reading about OpenAI."),
]


@pytest.mark.parametrize(("question", "answer"), CLAIMS)
def test_a_claim_to_be_another_model_goes(question: str, answer: str) -> None:
    verdict = other_identity.check_row(row_of(talk(question, answer)), other_identity.Config())
    assert isinstance(verdict, Drop)
    assert verdict.reason == "other_identity"
    assert verdict.detail in answer


@pytest.mark.parametrize(("question", "answer"), OTHERS)
def test_speaking_about_a_model_or_as_someone_else_stays(question: str, answer: str) -> None:
    assert other_identity.check_row(row_of(talk(question, answer)), other_identity.Config()) == Keep()


@given(st.lists(st.booleans(), min_size=1, max_size=6), st.booleans())
def test_only_the_turns_with_a_claim_go(are_foreign: list[bool], has_system: bool) -> None:
    head = [Message("system", "回答要短。")] if has_system else []
    pairs = [talk(f"问题{n}", "我是 Vicuna。" if foreign else "好。") for n, foreign in enumerate(are_foreign)]
    kept = [message for pair, foreign in zip(pairs, are_foreign, strict=True) if not foreign for message in pair]
    verdict = other_identity.check_row(row_of([*head, *(m for pair in pairs for m in pair)]), other_identity.Config())
    if not any(are_foreign):
        assert verdict == Keep()
    else:
        assert verdict == (Change([*head, *kept]) if kept else Drop("other_identity", "我是 Vicuna。"))


def test_a_name_of_the_recipe_is_foreign_and_an_own_one_is_not() -> None:
    unknown, known = talk("你好", "我是小布。"), talk("你好", "我是通义千问。")
    assert other_identity.check_row(row_of(unknown), other_identity.Config()) == Keep()
    assert isinstance(other_identity.check_row(row_of(unknown), other_identity.Config(names=["小布"])), Drop)
    assert other_identity.check_row(row_of(known), other_identity.Config(own=["通义千问"])) == Keep()


def test_no_own_name_at_all_is_possible() -> None:
    assert isinstance(
        other_identity.check_row(row_of(talk("你好", "我是 Qwen。")), other_identity.Config(own=[])), Drop
    )


def test_a_document_makes_no_claim() -> None:
    assert other_identity.check_row(row_of(document("我是 ChatGPT。")), other_identity.Config()) == Keep()


def test_the_shipped_conversations_all_stay() -> None:
    lines = [line for file in STARTER_FOLDER.glob("*.jsonl") for line in file.read_text(encoding="utf-8").splitlines()]
    rows = [[Message(**message) for message in json.loads(line)["messages"]] for line in lines]
    verdicts = [other_identity.check_row(row_of(row), other_identity.Config()) for row in rows]
    assert set(map(type, verdicts)) == {Keep}


@pytest.mark.shared
def test_no_claim_is_left_in_conversations_about_an_identity(shared: Path) -> None:
    left: list[Message] = []
    for record in json.loads((shared / "vicuna/dummy_conversation.json").read_text(encoding="utf-8")):
        row = talk(*(turn["value"] for turn in record["conversations"]))
        verdict = other_identity.check_row(row_of(row), other_identity.Config())
        left += verdict.messages if isinstance(verdict, Change) else row if isinstance(verdict, Keep) else []
    assert left
    assert not [message for message in left if "Vicuna" in message.content or "LMSYS" in message.content]


# split_long


def count_chars(messages: Sequence[Message]) -> int:
    """A template of three tokens around each message, and one token for each character."""
    return sum(len(message.text) + 3 for message in messages)


def pairs_of(messages: Sequence[Message]) -> list[tuple[Message, Message]]:
    turns = [message for message in messages if message.role != "system"]
    return list(zip(turns[::2], turns[1::2], strict=True))


LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=12)


@given(LENGTHS, st.booleans(), st.integers(1, 80))
def test_pieces_hold_every_pair_once_in_order_and_the_system_message_each(
    lengths: list[int], has_system: bool, limit: int
) -> None:
    head = [Message("system", "短")] if has_system else []
    row = [*head, *talk(*(f"{n}" * length for n, length in enumerate(lengths) for _ in "问答"))]
    config = split_long.Config(maximum_tokens=limit, over_long="keep")
    verdict = split_long.check_row(row_of(row), config, count_tokens=count_chars)
    parts = verdict.parts if isinstance(verdict, Split) else [row]
    assert [pair for part in parts for pair in pairs_of(part)] == pairs_of(row)
    assert all(part[: len(head)] == head for part in parts)
    assert all(count_chars(part) <= limit or len(pairs_of(part)) == 1 for part in parts)
    assert all(count_chars([*a, *b[len(head) :][:2]]) > limit for a, b in pairwise(parts))


@given(LENGTHS, st.integers(1, 80))
def test_a_pair_that_is_too_long_takes_the_row_along_or_none_is(lengths: list[int], limit: int) -> None:
    row = talk(*("字" * length for length in lengths for _ in "问答"))
    verdict = split_long.check_row(row_of(row), split_long.Config(maximum_tokens=limit), count_tokens=count_chars)
    over_long = [number for number, pair in enumerate(pairs_of(row), start=1) if count_chars(pair) > limit]
    if not over_long:
        assert not isinstance(verdict, Drop)
    else:
        assert isinstance(verdict, Drop)
        assert verdict.detail.startswith(f"question {over_long[0]} with its answer alone has")


def test_the_reason_says_how_long_a_pair_is() -> None:
    row = talk("你好", "好。", "讲个故事", "从" * 2_000)
    verdict = split_long.check_row(row_of(row), split_long.Config(maximum_tokens=1_500), count_tokens=count_chars)
    detail = "question 2 with its answer alone has 2,010 tokens, more than 1,500"
    assert verdict == Drop("too_many_tokens", detail)


@given(LENGTHS, st.integers(8, 60))
def test_tokens_are_counted_a_few_times_per_turn(lengths: list[int], limit: int) -> None:
    calls = []

    def count(messages: Sequence[Message]) -> int:
        calls.append(len(messages))
        return count_chars(messages)

    row = talk(*("字" * length for length in lengths for _ in "问答"))
    split_long.check_row(row_of(row), split_long.Config(maximum_tokens=limit, over_long="keep"), count_tokens=count)
    assert len(calls) <= 3 * len(lengths) + 2


PARAGRAPHS = st.text(st.sampled_from("天地玄黄。！？ \n”.a"), min_size=1, max_size=120).filter(str.strip)


@settings(max_examples=300)
@given(PARAGRAPHS, st.integers(1, 40))
def test_pieces_of_a_document_are_the_document_and_none_is_blank(text: str, limit: int) -> None:
    config = split_long.Config(maximum_tokens=limit, over_long="keep")
    verdict = split_long.check_row(row_of(document(text)), config, count_tokens=count_chars)
    pieces = [part[0].content for part in verdict.parts] if isinstance(verdict, Split) else [text]
    assert "".join(pieces) == text
    assert all(piece.strip() for piece in pieces)
    assert all(len(piece) + 3 <= limit or len(piece.strip()) == 1 for piece in pieces)


def test_a_document_is_cut_between_paragraphs_then_sentences_then_characters() -> None:
    text = "天地玄黄。\n宇宙洪荒！\n日月盈昃，辰宿列张。“寒来暑往。”秋收冬藏\n云腾致雨露结为霜金生丽水玉出昆冈"
    verdict = split_long.check_row(
        row_of(document(text)), split_long.Config(maximum_tokens=15), count_tokens=count_chars
    )
    assert isinstance(verdict, Split)
    assert [part[0].content for part in verdict.parts] == [
        "天地玄黄。\n宇宙洪荒！\n",
        "日月盈昃，辰宿列张。",
        "“寒来暑往。”秋收冬藏\n",
        "云腾致雨露结为霜金生丽水",
        "玉出昆冈",
    ]


def test_a_document_of_which_not_one_character_fits_goes() -> None:
    verdict = split_long.check_row(
        row_of(document("天地")), split_long.Config(maximum_tokens=3), count_tokens=count_chars
    )
    assert verdict == Drop("too_many_tokens", "'天' alone has 4 tokens, more than 3")


# decontaminate


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    """An evaluation file of three questions in three layouts."""
    records = [
        {"question": "请写出一个可以生成五个不同随机数的程序。"},
        {"text": "中国有多少个省级行政区？"},
        {"turns": ["1+1=?", "如果把这个结果再乘以三百，得到的数是多少？"]},
    ]
    file = tmp_path / "eval.jsonl"
    file.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("question", "detail"),
    [
        ("请写出一个可以生成五个不同随机数的程序。", "100% of question 1 of eval.jsonl"),
        ("你好！请写出一个，可以生成五个不同随机数的 程序？谢谢", "100% of question 1 of eval.jsonl"),
        ("写出一个可以生成五个不同随机数的函数", "75% of question 1 of eval.jsonl"),
        ("请问中国有多少个省级行政区", "100% of question 2 of eval.jsonl"),
        ("１+１=？", "100% of question 3 of eval.jsonl"),
        ("如果把这个结果再乘以三百，得到的数是多少？", "100% of question 3 of eval.jsonl"),
    ],
)
def test_a_question_of_the_evaluation_goes(evaluation: Path, question: str, detail: str) -> None:
    config = decontaminate.Config(files=[str(evaluation)])
    verdict = decontaminate.check_row(row_of(talk("你好", "好。", question, "好。")), config)
    assert verdict == Drop("contaminated", detail)


@pytest.mark.parametrize("question", ["请写出一个程序。", "中国有多少人？", "11+1=?", "算出1+1=?的结果", "？"])
def test_a_question_that_shares_little_stays(evaluation: Path, question: str) -> None:
    assert (
        decontaminate.check_row(row_of(talk(question, "好。")), decontaminate.Config(files=[str(evaluation)])) == Keep()
    )


def test_a_question_is_looked_for_in_documents_and_input_but_not_in_answers(evaluation: Path) -> None:
    config = decontaminate.Config(files=[str(evaluation)])
    question = "中国有多少个省级行政区？"
    with_input = [Message("user", "回答问题。", question), Message("assistant", "34个。")]
    assert isinstance(decontaminate.check_row(row_of(document(f"习题：{question}")), config), Drop)
    assert isinstance(decontaminate.check_row(row_of(with_input), config), Drop)
    assert decontaminate.check_row(row_of(talk("出一道题", question)), config) == Keep()


ASKED = [
    json.loads(line)["messages"][0]["content"]
    for line in (STARTER_FOLDER / "open_qa.jsonl").read_text(encoding="utf-8").splitlines()
]
SLICES = st.builds(
    lambda text, start, end: text[start : start + end], *(st.sampled_from(ASKED), *[st.integers(0, 20)] * 2)
)


@settings(max_examples=50, deadline=None)
@given(SLICES, SLICES, st.integers(2, 8), st.floats(0.05, 1))
def test_a_row_goes_when_it_holds_the_share_of_a_question(before: str, after: str, n: int, share: float) -> None:
    config = decontaminate.EXAMPLE.model_copy(update={"ngram": n, "maximum_overlap": share})
    found = grams(normalise(before + after), n)
    wanted = [grams(normalise(text), n) for text in ASKED]
    nearest = max(len(found & question) / len(question) for question in wanted)
    verdict = decontaminate.check_row(row_of(talk(before + after, "好。")), config)
    assert isinstance(verdict, Drop) == (nearest >= share)


def test_the_fingerprint_follows_the_content(evaluation: Path) -> None:
    config = decontaminate.Config(files=[str(evaluation)])
    assert decontaminate.fingerprint(config) == [hash_file(evaluation)]


def test_files_are_meant_from_the_recipes_folder(evaluation: Path) -> None:
    values = {"files": [evaluation.name]}
    config = decontaminate.Config.model_validate(values, context={"folder": evaluation.parent})
    assert config.files == [str(evaluation)]
    with pytest.raises(ValidationError, match="no data files found"):
        decontaminate.Config(files=[evaluation.name])


def test_a_file_without_questions_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text('{"answer": "好", "question": ""}\n', encoding="utf-8")
    with pytest.raises(
        InputError, match="no question found under question, text, prompt, instruction, turns"
    ) as raised:
        decontaminate.check_row(row_of(talk("你好", "好")), decontaminate.Config(files=[str(file)]))
    assert raised.value.where == str(file)
    assert "columns" in raised.value.fix


@pytest.mark.parametrize(("line", "why"), [("[1]", "expected an object, found list"), ("{", "column 2")])
def test_a_question_that_cannot_be_read_is_refused(tmp_path: Path, line: str, why: str) -> None:
    file = tmp_path / "broken.jsonl"
    file.write_text(f'{{"question": "一加一等于几？"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(InputError, match=rf"this record cannot be read: .*{why}.*\n.*broken\.jsonl:2"):
        decontaminate.check_row(row_of(talk("你好", "好")), decontaminate.Config(files=[str(file)]))


@pytest.mark.shared
def test_lightly_edited_evaluation_questions_are_found_in_real_data(shared: Path) -> None:
    file = shared / "belle/eval_set.json"
    questions = [json.loads(line)["question"] for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    config = decontaminate.Config(files=[str(file)])

    def num_found(texts: list[str]) -> int:
        return sum(isinstance(decontaminate.check_row(row_of(talk(text, "好。")), config), Drop) for text in texts)

    assert num_found([unicodedata.normalize("NFKC", f"{question}\n") for question in questions]) == 1_000
    assert num_found([f"你好，请回答：{question}谢谢！" for question in questions]) >= 995
    assert num_found([question[:-1] + "的" + question[-1:] for question in questions]) >= 950


# topic


def test_rows_of_the_named_topics_go() -> None:
    topics = {"a": "菜谱", "b": "编程"}
    config = topic.Config(drop=["菜谱"])
    assert topic.check_row(row_of((), "a"), config, topics=topics) == Drop("topic", "菜谱")
    assert topic.check_row(row_of((), "b"), config, topics=topics) == Keep()


def test_a_topic_that_does_not_exist_is_refused_with_the_known_ones() -> None:
    topics = {"a": "菜谱", "b": "编程"}
    topic.check_config(topic.Config(drop=["菜谱"]), topics=topics)
    with pytest.raises(InputError, match="unknown topic '菜谱大全'; did you mean '菜谱'") as raised:
        topic.check_config(topic.Config(drop=["编程", "菜谱大全"]), topics=topics)
    assert raised.value.what.endswith("(known: 编程, 菜谱)")


def test_a_row_without_a_topic_is_refused() -> None:
    with pytest.raises(InputError, match="row 'c' has no topic") as raised:
        topic.check_row(row_of((), "c"), topic.EXAMPLE, topics={})
    assert "before filters that change or split" in raised.value.fix
