"""What holds for every data format, by its example and by whatever JSON may hold; and how a format is found."""

import json
from pathlib import Path
from typing import Any

import fakes
import pytest
from format_records import ALIGN_BENCH, FIREFLY, MOSS_002, MOSS_003, MT_BENCH, VICUNA, why
from hypothesis import given, settings
from hypothesis import strategies as st

from baihua.core import kinds
from baihua.data.drafts import LONGEST_DETAIL, Bad, check_turns
from baihua.data.formats import alpaca, auto, belle, text

PACKAGE = "baihua.data.formats"
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
JSON = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3)
)
KINDS = [kind for kind in kinds.names(PACKAGE) if kind != "auto"]
every_format = pytest.mark.parametrize("kind", KINDS)

# One more record for each shape that a format reads beside its example's.
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("alpaca", alpaca.EXAMPLE | {"system": "规则", "history": [["问", "答"]]}),
    ("alpaca", alpaca.EXAMPLE | {"text": "翻译成英文\n你好\nHello"}),
    ("belle", belle.EXAMPLE | {"instruction": "Human：你好\nAssistant："}),
    ("sharegpt", {"id": "1", "conversations": [{"from": "human", "value": "?"}, {"from": "assistant", "value": "!"}]}),
    ("prompt_response", FIREFLY),
    ("prompt_response", MOSS_002),
    ("prompt_response", MOSS_003),
    ("questions", VICUNA),
    ("questions", MT_BENCH),
    ("questions", ALIGN_BENCH),
]
every_record = pytest.mark.parametrize(
    ("kind", "record"),
    [(kind, kinds.find(PACKAGE, kind).EXAMPLE) for kind in KINDS] + OTHERS,
)


# What holds for every format


@every_record
def test_a_record_fits_is_detected_and_becomes_drafts_without_fault(kind: str, record: dict[str, Any]) -> None:
    module = kinds.find(PACKAGE, kind)
    assert module.fits(record)
    assert auto.detect([record]) == kind
    for draft in module.convert(record, module.Config()):
        if draft.text is None:
            check_turns(draft.messages, is_answered=draft.is_answered)


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
        whole = st.lists(st.one_of(*map(variants, value)), max_size=3)
    else:
        whole = st.just(value)
    return whole | JSON


def check_any_json(kind: str, record: dict[str, Any]) -> None:
    """A record becomes drafts that JSON can hold, or a short reason with a detail; whether it fits is known."""
    module = kinds.find(PACKAGE, kind)
    assert module.fits(record) in (True, False)
    try:
        found = module.convert(record, module.Config())
    except Bad as bad:
        assert bad.reason.replace("_", "").isalpha()
        assert 0 < len(bad.detail) <= LONGEST_DETAIL
        return
    assert found
    for draft in found:
        assert all(isinstance(m.content, str) and isinstance(m.input, str | None) for m in draft.messages)
        assert isinstance(draft.text, str) != bool(draft.messages)
        json.dumps(draft.meta)


@every_record
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_json_object_becomes_drafts_or_a_reason(kind: str, record: dict[str, Any], data: st.DataObject) -> None:
    check_any_json(kind, data.draw(variants(record).filter(lambda value: isinstance(value, dict))))


@every_format
def test_an_empty_record_fits_nothing_and_has_a_reason(kind: str) -> None:
    module = kinds.find(PACKAGE, kind)
    assert not module.fits({})
    assert why(module, {})[1].endswith("the keys are: none")


# Detection


def test_every_format_of_ours_has_its_place_in_the_order_of_detection() -> None:
    assert sorted([*auto.ORDER, "auto"]) == kinds.names(PACKAGE)


def test_most_records_decide_the_format_and_none_means_none() -> None:
    assert auto.detect([text.EXAMPLE, {"x": 1}, alpaca.EXAMPLE, alpaca.EXAMPLE]) == "alpaca"
    assert auto.detect([{"x": 1}]) is None
    assert auto.detect([]) is None


def test_a_row_that_fits_only_the_wider_format_does_not_win_the_file_for_it() -> None:
    assert auto.detect([belle.EXAMPLE, alpaca.EXAMPLE, belle.EXAMPLE]) == "belle"


@given(st.permutations([alpaca.EXAMPLE, text.EXAMPLE]))
def test_equal_counts_go_to_the_more_specific_format(records: list[dict[str, Any]]) -> None:
    assert auto.detect(records) == "alpaca"


def test_a_users_format_takes_part_in_detection_if_it_can_tell(tmp_path: Path) -> None:
    mine = "def fits(record):\n    return 'q' in record\n"
    try:
        fakes.extend(tmp_path, {"data/formats/mine.py": mine, "data/formats/mute.py": "EXAMPLE = {}\n"})
        assert auto.detect([{"q": "?"} | alpaca.EXAMPLE]) == "mine"
        assert auto.detect([alpaca.EXAMPLE]) == "alpaca"
    finally:
        fakes.take_back(tmp_path)
