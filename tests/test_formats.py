"""Every data format, by its own example and by whatever JSON may hold."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baihua.chat.types import Message
from baihua.core import kinds
from baihua.data.formats import alpaca, bilingual, messages, sharegpt
from baihua.data.rows import Bad, find_fault

PACKAGE = "baihua.data.formats"
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
JSON = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3)
)
every_format = pytest.mark.parametrize("kind", kinds.names(PACKAGE))


@every_format
def test_the_example_becomes_conversations_without_fault(kind: str) -> None:
    module = kinds.find(PACKAGE, kind)
    found = module.convert(module.EXAMPLE, module.Config())
    assert [find_fault(conversation) for conversation in found] == [None]


@every_format
def test_the_config_is_named_after_the_file_and_documented(kind: str) -> None:
    config = kinds.find(PACKAGE, kind).Config
    assert config().kind == kind
    assert len(config.model_fields) <= 15
    assert all(field.description for field in config.model_fields.values())


def variants(value: Any) -> st.SearchStrategy[Any]:
    """The value with any part of it replaced or left out."""
    if isinstance(value, dict):
        whole = st.fixed_dictionaries({}, optional={key: variants(item) for key, item in value.items()})
    elif isinstance(value, list):
        whole = st.lists(st.one_of(map(variants, value)), max_size=3)
    else:
        whole = st.just(value)
    return whole | JSON


@every_format
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_json_object_becomes_conversations_or_a_reason(kind: str, data: st.DataObject) -> None:
    module = kinds.find(PACKAGE, kind)
    record = data.draw(variants(module.EXAMPLE).filter(lambda value: isinstance(value, dict)))
    found = module.convert(record, module.Config())
    if isinstance(found, Bad):
        assert found.reason.replace("_", "").isalpha()
        assert found.detail
        return
    for conversation in found:
        assert all(isinstance(m.content, str) and isinstance(m.input, str | None) for m in conversation)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"instruction": "x"}, "no_text"),
        ({"instruction": 3, "output": "y"}, "no_text"),
    ],
)
def test_an_alpaca_record_without_text_is_bad(record: dict[str, Any], reason: str) -> None:
    found = alpaca.convert(record, alpaca.Config())
    assert isinstance(found, Bad)
    assert found.reason == reason


def test_alpacas_input_stays_apart_and_a_blank_one_is_none() -> None:
    for given_input, wanted in [("你好", "你好"), (" ", None), (None, None)]:
        record = {"instruction": "译", "input": given_input, "output": "Hi"}
        assert alpaca.convert(record, alpaca.Config()) == [[Message("user", "译", wanted), Message("assistant", "Hi")]]


def test_columns_may_have_other_names() -> None:
    record = {"问": "a", "答": "b"}
    assert alpaca.convert(record, alpaca.Config(instruction="问", output="答")) == [
        [Message("user", "a"), Message("assistant", "b")]
    ]


@pytest.mark.parametrize(
    ("language", "questions"), [("zh", ["翻译成英文"]), ("en", ["Say hello."]), ("both", ["翻译成英文", "Say hello."])]
)
def test_bilingual_takes_the_sides_that_are_wanted(language: str, questions: list[str]) -> None:
    found = bilingual.convert(bilingual.EXAMPLE, bilingual.Config.model_validate({"language": language}))
    assert isinstance(found, list)
    assert [conversation[0].content for conversation in found] == questions


def test_bilingual_without_one_side_is_bad() -> None:
    found = bilingual.convert({"zh_instruction": "a", "zh_output": "b"}, bilingual.Config(language="both"))
    assert isinstance(found, Bad)
    assert "'en_instruction'" in found.detail


def test_sharegpts_system_key_comes_first() -> None:
    found = sharegpt.convert({"system": "规则"} | sharegpt.EXAMPLE, sharegpt.Config())
    assert isinstance(found, list)
    assert found[0][0] == Message("system", "规则")


@pytest.mark.parametrize(
    ("record", "reason", "detail"),
    [
        ({"conversations": []}, "no_messages", "expected a list under 'messages'; the keys are: conversations"),
        ({"messages": ["hi"]}, "not_a_message", "expected role and content, found 'hi'"),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "unknown_role",
            "'tool'; the roles are: system, user, assistant",
        ),
        ({"messages": [{"role": "user", "content": "x", "input": 3}]}, "not_a_message", "expected `input` to be text"),
    ],
)
def test_a_messages_record_that_is_none_says_why(record: dict[str, Any], reason: str, detail: str) -> None:
    found = messages.convert(record, messages.Config())
    assert isinstance(found, Bad)
    assert (found.reason, detail in found.detail) == (reason, True)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({}, "no_messages"),
        ({"conversations": [{"from": "human"}]}, "not_a_message"),
        ({"conversations": [{"from": "tool", "value": "x"}]}, "unknown_role"),
        ({"conversations": [{"from": ["human"], "value": "x"}]}, "unknown_role"),
    ],
)
def test_a_sharegpt_record_that_is_none_says_why(record: dict[str, Any], reason: str) -> None:
    found = sharegpt.convert(record, sharegpt.Config())
    assert isinstance(found, Bad)
    assert found.reason == reason
