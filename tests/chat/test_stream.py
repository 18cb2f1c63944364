"""Streaming: whole characters, stop strings, however the bytes arrive."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from baihua.chat.stream import TextStream

TEXT = "你好，世界！👩‍👩‍👧 ok é"
PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def stream(data: bytes, cuts: list[int], stop: tuple[str, ...] = ()) -> list[str]:
    """The pieces that come out when bytes arrive cut at these places."""
    text_stream = TextStream(stop)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pieces = [text_stream.push(data[a:b]) for a, b in itertools.pairwise(places)]
    return [*pieces, text_stream.finish()]


@given(st.lists(st.integers(0, 100), max_size=8))
def test_stream_is_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    assert "".join(stream(TEXT.encode(), cuts)) == TEXT


@given(
    PLAIN, st.lists(st.integers(0, 100), max_size=8), st.lists(st.text("ab。\n", min_size=1, max_size=3), max_size=3)
)
def test_the_text_ends_before_the_first_stop_string(text: str, cuts: list[int], stop: list[str]) -> None:
    whole = text + "ab。\n" + text
    ends = [at for word in stop if (at := whole.find(word)) >= 0]
    assert "".join(stream(whole.encode(), cuts, tuple(stop))) == whole[: min(ends, default=len(whole))]


@given(st.binary(max_size=20), st.lists(st.integers(0, 100), max_size=5))
def test_broken_bytes_become_what_python_makes_of_them(data: bytes, cuts: list[int]) -> None:
    assert "".join(stream(data, cuts)) == data.decode("utf-8", errors="replace")


def test_half_a_character_at_the_end_becomes_one_replacement_character() -> None:
    assert stream("好".encode()[:2], []) == ["", "\ufffd"]


def test_no_piece_holds_half_a_character() -> None:
    assert stream("好的".encode(), [1, 2, 4, 5]) == ["", "", "好", "", "的", ""]


def test_nothing_comes_after_a_stop_string() -> None:
    text_stream = TextStream(["停"])
    assert [text_stream.push("好停不".encode()), text_stream.push(b"more"), text_stream.finish()] == ["好", "", ""]
    assert text_stream.is_stopped


def test_what_may_begin_a_stop_string_waits() -> None:
    text_stream = TextStream(["<end>"])
    assert [text_stream.push(b"a<en"), text_stream.push(b"ough")] == ["a", "<enough"]
