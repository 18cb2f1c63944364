"""Formats of conversations: alpaca and its relatives, lists of turns, BELLE, prompts and responses."""

from typing import Any

import pytest
from format_records import FIREFLY, MOSS_002, MOSS_003, talk, why
from hypothesis import given
from hypothesis import strategies as st

from baihua.chat.types import Message
from baihua.core import kinds
from baihua.data.drafts import TOOL_ROLES, Draft
from baihua.data.formats import alpaca, belle, bilingual, messages, prompt_response, sharegpt

PACKAGE = "baihua.data.formats"

# Alpaca and its relatives


@pytest.mark.parametrize(
    ("record", "reason", "detail"),
    [
        ({"instruction": "x"}, "no_text", "expected text under 'output'; the keys are: instruction"),
        ({"instruction": 3, "output": "y"}, "no_text", "expected text under 'instruction'; found 3"),
        ({"instruction": "x", "output": "y", "input": 3}, "no_text", "expected text under 'input'; found 3"),
        ({"instruction": "x", "output": "y", "system": []}, "no_text", "expected text under 'system'; found []"),
        (
            {"instruction": "x", "output": "y", "history": "z"},
            "bad_history",
            "expected a list of [question, answer] under 'history'; found 'z'",
        ),
        (
            {"instruction": "x", "output": "y", "history": [["a"]]},
            "bad_history",
            "expected [question, answer], found ['a']",
        ),
    ],
)
def test_an_alpaca_record_that_is_none_says_why(record: dict[str, Any], reason: str, detail: str) -> None:
    assert why(alpaca, record) == (reason, detail)


def test_alpacas_input_stays_apart_and_a_blank_one_is_none() -> None:
    for given_input, wanted in [("你好", "你好"), (" ", None), (None, None)]:
        record = {"instruction": "译", "input": given_input, "output": "Hi"}
        assert alpaca.convert(record, alpaca.Config()) == [
            Draft([Message("user", "译", wanted), Message("assistant", "Hi")])
        ]


def test_alpacas_system_and_history_come_before_the_instruction() -> None:
    record = {"instruction": "三", "output": "四", "system": "规则", "history": [["一", "二"]]}
    assert talk(alpaca.convert(record, alpaca.Config())) == [
        ("system", "规则"),
        ("user", "一"),
        ("assistant", "二"),
        ("user", "三"),
        ("assistant", "四"),
    ]


@pytest.mark.parametrize(
    ("kind", "columns", "record"),
    [
        ("alpaca", {"instruction": "问", "output": "答"}, {"问": "a", "答": "b"}),
        ("belle", {"instruction": "问", "output": "答"}, {"问": "Human:a\nAssistant:", "答": "b"}),
        ("bilingual", {"instruction": "问_{language}", "output": "答_{language}"}, {"问_zh": "a", "答_zh": "b"}),
        ("prompt_response", {"prompt": "问", "response": "答"}, {"问": "a", "答": "b", "prompt": "c", "response": "d"}),
        ("seed_tasks", {"instruction": "问", "instances": "例"}, {"问": "a", "例": [{"output": "b"}]}),
        ("sharegpt", {"column": "话"}, {"话": [{"from": "user", "value": "a"}, {"from": "Bot", "value": "b"}]}),
        (
            "messages",
            {"column": "话"},
            {"话": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        ),
    ],
)
def test_columns_may_have_other_names(kind: str, columns: dict[str, str], record: dict[str, Any]) -> None:
    module = kinds.find(PACKAGE, kind)
    assert talk(module.convert(record, module.Config(**columns))) == [("user", "a"), ("assistant", "b")]


@pytest.mark.parametrize(
    ("language", "found"),
    [("zh", {"zh": "翻译成英文"}), ("en", {"en": "Say hello."}), ("both", {"zh": "翻译成英文", "en": "Say hello."})],
)
def test_bilingual_takes_the_sides_that_are_wanted_and_names_them(language: str, found: dict[str, str]) -> None:
    sides = bilingual.convert(bilingual.EXAMPLE, bilingual.Config.model_validate({"language": language}))
    assert {draft.meta["language"]: draft.messages[0].content for draft in sides} == found


def test_bilingual_without_one_side_is_bad() -> None:
    found = why(bilingual, {"zh_instruction": "a", "zh_output": "b"}, language="both")
    assert "'en_instruction'" in found[1]


# Turns


def test_sharegpts_system_key_comes_first() -> None:
    found = sharegpt.convert({"system": "规则"} | sharegpt.EXAMPLE, sharegpt.Config())
    assert talk(found)[0] == ("system", "规则")


@pytest.mark.parametrize("name", ["gpt", "ChatGPT", "bing", "bard", "model", "assistant", " bot"])
def test_whoever_answered_is_the_assistant(name: str) -> None:
    record = {"conversations": [{"from": "Human", "value": "?"}, {"from": name, "value": "!"}]}
    assert talk(sharegpt.convert(record, sharegpt.Config())) == [("user", "?"), ("assistant", "!")]


@pytest.mark.parametrize(
    ("record", "reason", "detail"),
    [
        (
            {"conversations": []},
            "no_messages",
            "expected a list of turns under 'messages'; the keys are: conversations",
        ),
        ({"messages": ["hi"]}, "not_a_message", "expected role and content, found 'hi'"),
        ({"messages": [{"role": "user"}]}, "not_a_message", "expected role and content"),
        (
            {"messages": [{"role": "owner", "content": "x"}]},
            "unknown_role",
            "'owner'; the roles are: system, user, assistant",
        ),
        ({"messages": [{"role": "user", "content": "x", "input": 3}]}, "not_a_message", "expected `input` to be text"),
    ],
)
def test_a_messages_record_that_is_none_says_why(record: dict[str, Any], reason: str, detail: str) -> None:
    found = why(messages, record)
    assert (found[0], detail in found[1]) == (reason, True)


@pytest.mark.parametrize(
    ("record", "reason", "detail"),
    [
        ({}, "no_messages", "expected a list of turns under 'conversations'"),
        ({"conversations": []}, "no_messages", "; found []"),
        ({"conversations": [{"from": "human"}]}, "not_a_message", "expected from and value"),
        ({"conversations": [{"role": "user", "content": "x"}]}, "not_a_message", "expected from and value"),
        ({"conversations": [{"from": "owner", "value": "x"}]}, "unknown_role", "'owner'; the roles are: human"),
        ({"conversations": [{"from": ["human"], "value": "x"}]}, "unknown_role", "['human']; the roles"),
        ({"conversations": [1], "system": 3}, "no_text", "expected text under 'system'; found 3"),
    ],
)
def test_a_sharegpt_record_that_is_none_says_why(record: dict[str, Any], reason: str, detail: str) -> None:
    found = why(sharegpt, record)
    assert (found[0], detail in found[1]) == (reason, True)


@pytest.mark.parametrize("role", sorted(TOOL_ROLES))
def test_a_turn_of_a_tool_is_reported_in_both_layouts(role: str) -> None:
    wanted = ("tool_turn", f"a turn of {role!r}: conversations with tools cannot be trained on")
    as_messages = {"messages": [*messages.EXAMPLE["messages"], {"role": role, "content": "晴"}]}
    as_turns = {"conversations": [*sharegpt.EXAMPLE["conversations"], {"from": role, "value": {"天气": "晴"}}]}
    assert why(messages, as_messages) == wanted
    assert why(sharegpt, as_turns) == wanted


@pytest.mark.parametrize("key", ["tool_calls", "function_call"])
def test_a_message_that_calls_a_tool_is_reported(key: str) -> None:
    record = {"messages": [{"role": "assistant", "content": None, key: [{"name": "weather"}]}]}
    assert messages.fits(record)
    assert why(messages, record)[0] == "tool_turn"


# BELLE's conversations in one text

LINES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=9).map(str.strip)
WORDS = LINES.filter(lambda line: bool(line) and not line.startswith(("Human", "Assistant")))


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4), st.sampled_from([":", "："]))
def test_belles_text_gives_back_the_turns_that_it_was_made_of(pairs: list[tuple[str, str]], colon: str) -> None:
    lines = [line for question, answer in pairs for line in (f"Human{colon}{question}", f"Assistant{colon}{answer}")]
    last = pairs[-1][1]
    record = {"instruction": "\n".join(lines).removesuffix(last), "input": "", "output": last}
    turns = [turn for question, answer in pairs for turn in (("user", question), ("assistant", answer))]
    assert talk(belle.convert(record, belle.Config())) == turns


def test_a_speaker_counts_only_at_the_start_of_a_line() -> None:
    record = {"instruction": "Human:译：Human: hi\n他说Assistant:好\nAssistant:", "output": "人类：嗨"}
    assert talk(belle.convert(record, belle.Config())) == [
        ("user", "译：Human: hi\n他说Assistant:好"),
        ("assistant", "人类：嗨"),
    ]


def test_belles_output_completes_an_answer_that_was_begun_or_follows_a_question() -> None:
    for instruction, output in [("Human:问\nAssistant:好的，", "可以。"), ("Human:问", "好的，可以。")]:
        found = belle.convert({"instruction": instruction, "output": output}, belle.Config())
        assert talk(found) == [("user", "问"), ("assistant", "好的，可以。")]


def test_belles_input_belongs_to_the_last_question() -> None:
    (draft,) = belle.convert(belle.EXAMPLE | {"input": "材料"}, belle.Config())
    assert [message.input for message in draft.messages] == [None, None, "材料", None]


def test_belle_reads_lists_of_turns_but_leaves_their_detection_to_sharegpt() -> None:
    assert belle.convert(sharegpt.EXAMPLE, belle.Config()) == sharegpt.convert(sharegpt.EXAMPLE, sharegpt.Config())
    assert not belle.fits(sharegpt.EXAMPLE)


def test_a_belle_text_without_a_speaker_at_its_start_says_so() -> None:
    for instruction in ("写一首诗", "以下是对话\nHuman:你好"):
        found = why(belle, {"instruction": instruction, "output": "x"})
        assert found[0] == "no_messages"
        assert "expected 'Human:' at the start" in found[1]


# Prompts and responses, MOSS


def test_kind_and_source_are_kept_beside_a_pair() -> None:
    found = prompt_response.convert(FIREFLY, prompt_response.Config())
    assert found[0].meta == {"kind": "Couplet"}
    assert talk(found) == [("user", "上联：春回大地"), ("assistant", "下联：福满人间")]
    example = prompt_response.convert(prompt_response.EXAMPLE, prompt_response.Config())
    assert example[0].meta == {"source": "daily"}


def test_moss_turns_come_by_number_and_without_marks() -> None:
    assert talk(prompt_response.convert(MOSS_003, prompt_response.Config())) == [
        ("system", "你是一个助手。"),
        ("user", "问2"),
        ("assistant", "答2\n完"),
        ("user", "问10"),
        ("assistant", "答10\n完"),
    ]


def test_mosss_older_text_is_cut_into_turns() -> None:
    assert talk(prompt_response.convert(MOSS_002, prompt_response.Config())) == [
        ("system", "规则"),
        ("user", "你好"),
        ("assistant", "你好！"),
        ("user", "再见"),
        ("assistant", "再见！"),
    ]


@pytest.mark.parametrize("key", prompt_response.INNER_KEYS)
def test_moss_using_a_tool_is_reported(key: str) -> None:
    turn = {"Human": "<|Human|>: 天气<eoh>\n", key: '<|Any|>: Search("天气")<eoc>\n', "MOSS": "<|MOSS|>: 晴<eom>"}
    reason, detail = why(prompt_response, {"chat": {"turn_1": turn}})
    assert reason == "tool_turn"
    assert detail.startswith(f'{key}: Search("天气"): conversations with tools')


@pytest.mark.parametrize(
    ("record", "reason", "detail"),
    [
        ({"prompt": "x"}, "no_text", "expected text under 'response'; the keys are: prompt"),
        ({"input": "x", "target": 3}, "no_text", "expected text under 'target'; found 3"),
        ({"chat": []}, "no_messages", "expected turn_1, turn_2 and so on under 'chat'; found []"),
        ({"chat": {}}, "no_messages", "found {}"),
        ({"chat": {"one": {}}}, "no_messages", "expected turn_1, turn_2 and so on under 'chat'"),
        ({"chat": {"turn_1": {"Human": "x"}}}, "not_a_message", "expected texts under 'Human' and 'MOSS'"),
        ({"plain_text": "你好"}, "no_messages", "expected turns of [Human]: and [MOSS]: under 'plain_text'"),
        ({"plain_text": "嗯 [Human]: a<eoh>"}, "no_messages", "found '嗯 [Human]: a<eoh>'"),
        ({"plain_text": "[Human]: a<eoh>", "prefix": 3}, "no_text", "expected text under 'prefix'; found 3"),
    ],
)
def test_a_prompt_without_a_response_says_why(record: dict[str, Any], reason: str, detail: str) -> None:
    found = why(prompt_response, record)
    assert (found[0], detail in found[1]) == (reason, True)
