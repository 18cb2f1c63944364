"""Configs are frozen and strict; overrides are dotted paths."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from baihua.core.config import Base, apply_override, content, execution, identifying, parse_override
from baihua.core.errors import InputError


class Inner(Base):
    """A config inside another."""

    rank: int = 8
    """How many."""
    threads: int = execution(2)
    """How."""


class Outer(Base):
    """A config."""

    inner: Inner = Inner()
    """Inside."""
    many: tuple[Inner, ...] = ()
    """Several."""
    named: dict[str, Inner] = Field(default_factory=dict)
    """By name."""
    file: str = content("")
    """A path."""
    rate: float = 1e-4
    """A number."""


def test_a_config_cannot_be_changed_or_hold_unknown_keys() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Inner().rank = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Inner.model_validate({"rnak": 3})


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_is_finite(number: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Outer(rate=number)


def test_the_sentence_under_a_field_is_its_help() -> None:
    assert Inner.model_fields["rank"].description == "How many."


def test_only_what_can_change_the_result_identifies() -> None:
    config = Outer(inner=Inner(threads=9), many=(Inner(threads=3),), named={"a": Inner(rank=1)}, file="x")
    assert identifying(config) == {
        "inner": {"rank": 8},
        "many": [{"rank": 8}],
        "named": {"a": {"rank": 1}},
        "rate": 1e-4,
    }


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("a.b=3", ["a", "b"], 3),
        ("a=true", ["a"], True),
        ("a=[x, y]", ["a"], ["x", "y"]),
        ("rate=2e-4", ["rate"], 2e-4),
        ("name=hello", ["name"], "hello"),
        ("name=", ["name"], ""),
        ("a=b=c", ["a"], "b=c"),
    ],
)
def test_an_override_is_read_as_people_mean_it(text: str, path: list[str], value: Any) -> None:
    assert parse_override(text) == (path, value)


@pytest.mark.parametrize("text", ["a.b", "=3", "a..b=3", ".a=3"])
def test_an_override_without_path_or_value_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"cannot read the override .*\n  fix:   write it as path\.to\.key=value"):
        parse_override(text)


def test_an_override_that_is_no_yaml_is_refused() -> None:
    with pytest.raises(InputError, match=r"the value of override 'a=\[' is not valid YAML: (?s:.*)fix:   quote it"):
        parse_override("a=[")


NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=3)


@given(NAMES, st.integers())
def test_an_override_can_be_read_back_and_leaves_the_tree_alone(path: list[str], value: int) -> None:
    tree: dict[str, Any] = {"z": 1}
    found: Any = apply_override(tree, path, value)
    for key in path:
        found = found[key]
    assert found == value
    assert tree == {"z": 1}


def test_an_override_below_a_plain_value_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"override 'name\.x' goes below 'name', which is \"白话\"\n  fix:   set 'name' itself"
    ):
        apply_override({"name": "白话"}, ["name", "x"], 1)
