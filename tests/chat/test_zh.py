"""Facts about Chinese text."""

import re
import unicodedata

import daft
import pytest
from daft import col
from hypothesis import given
from hypothesis import strategies as st

from baihua.chat.zh import HAN, han_share, is_han, is_mainly_chinese


@given(st.characters(exclude_categories=["Cs", "Cn"]))
def test_the_unicode_names_agree_on_what_is_han(char: str) -> None:
    name = unicodedata.name(char, "")
    assert is_han(char) == name.startswith(("CJK UNIFIED IDEOGRAPH", "CJK COMPATIBILITY IDEOGRAPH"))


@pytest.mark.parametrize(
    ("text", "share"), [("", 0.0), ("123，！", 0.0), ("白话", 1.0), ("白话ab", 0.5), ("Hello", 0.0), ("𠀀a", 0.5)]
)
def test_the_share_of_han_counts_letters_only(text: str, share: float) -> None:
    assert han_share(text) == share


@pytest.mark.parametrize(("text", "is_chinese"), [("用 Python 写代码的方法", True), ("Use 白话", False), ("😀", False)])
def test_mainly_chinese_means_at_least_half_of_the_letters(text: str, is_chinese: bool) -> None:
    assert is_mainly_chinese(text) is is_chinese


def test_python_and_rust_find_the_same_han_characters() -> None:
    text = "".join(map(chr, [*range(0x2E80, 0xD800), *range(0xF000, 0xFFFF), *range(0x1F000, 0x33000)]))
    found = daft.from_pydict({"text": [text]}).select(col("text").regexp_count(f"[{HAN}]")).to_pydict()["text"]
    assert found == [len(re.findall(f"[{HAN}]", text))]
