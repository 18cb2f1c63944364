"""SentencePiece's BPE as a tokenizer.json and as a tokenizer.model: the ids are SentencePiece's own."""

import json
from pathlib import Path

import pytest
import sentence_pieces
import sentencepiece
from gguf.constants import TokenType
from hypothesis import given
from hypothesis import strategies as st
from mixed_text import lines
from tokenizers import Tokenizer

from baihua.modelfiles.tokenizers.sentence_piece import (
    BYTE_NAMES,
    Pieces,
    merges_of,
    model_bytes,
    read_model_pieces,
    tokenizer_parts,
    unspellable,
)

WORDS = st.sets(st.text("ab", min_size=2, max_size=6), min_size=1, max_size=12)


def pieces_of(words: list[str], *, adds_space: bool = False) -> Pieces:
    texts = ["<unk>", *BYTE_NAMES, "\u2581", "a", "b", *words]
    types = [TokenType.UNKNOWN, *[TokenType.BYTE] * 256, *[TokenType.NORMAL] * (3 + len(words))]
    scores = [0.0] * 260 + [-float(rank) for rank in range(len(words))]
    return Pieces(texts, scores, types, adds_space, {"unk": 0})


def load(pieces: Pieces) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=model_bytes(pieces))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sentence_pieces.train(tmp_path_factory.mktemp("pieces"))


def test_a_tokenizer_json_has_the_ids_of_its_tokenizer_model(model: Path) -> None:
    ours = Tokenizer.from_str(json.dumps(sentence_pieces.tokenizer_json(model)))
    ours.encode_special_tokens = True
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(model))
    for line in lines(500, seed=1):
        assert ours.encode(line, add_special_tokens=False).ids == theirs.encode(line), line


def test_a_written_tokenizer_model_is_what_was_read(model: Path, tmp_path: Path) -> None:
    pieces = read_model_pieces(model)
    (tmp_path / "again").write_bytes(model_bytes(pieces))
    assert read_model_pieces(tmp_path / "again") == pieces
    ours, theirs = load(pieces), sentencepiece.SentencePieceProcessor(model_file=str(model))
    assert [ours.encode(line) for line in lines(300)] == [theirs.encode(line) for line in lines(300)]


def test_a_tokenizer_model_knows_its_special_pieces_whatever_their_names() -> None:
    types = [TokenType.UNKNOWN, *[TokenType.CONTROL] * 2]
    pieces = Pieces(["?", "<begin>", "<end>"], [0.0] * 3, types, True, {"unk": 0, "eos": 2, "bos": 1})
    model = load(pieces)
    assert (model.unk_id(), model.bos_id(), model.eos_id(), model.pad_id()) == (0, 1, 2, -1)


@given(words=WORDS, text=st.text("ab ", max_size=30), adds_space=st.booleans())
def test_pairs_that_overlap_are_joined_from_the_left(words: set[str], text: str, adds_space: bool) -> None:
    # Two pairs of a word like "aaa" or "ababab" overlap both ways; no order of them is right for both.
    pieces = pieces_of(sorted(word for word in words if word not in (word + word)[1:-1]), adds_space=adds_space)
    ours = Tokenizer.from_str(json.dumps({"added_tokens": [], "post_processor": None, **tokenizer_parts(pieces)}))
    assert ours.encode(text).ids == load(pieces).encode(text)


def test_the_best_score_comes_first_then_the_lowest_id() -> None:
    types = [TokenType.NORMAL] * 5
    pieces = Pieces(["a", "b", "ab", "ba", "bb"], [0.0, 0.0, -2.0, -1.0, -2.0], types, False, {})
    assert merges_of(pieces) == [("b", "a"), ("a", "b"), ("b", "b")]


def test_controls_and_bytes_are_never_joined() -> None:
    kinds = [TokenType.NORMAL, TokenType.NORMAL, TokenType.CONTROL, TokenType.UNUSED]
    assert merges_of(Pieces(["a", "b", "ab", "ba"], [0.0] * 4, kinds, False, {})) == []


def test_a_piece_with_an_unknown_character_is_found() -> None:
    kinds = [TokenType.NORMAL] * 3
    assert unspellable(Pieces(["a", "ab", "aa"], [0.0] * 3, kinds, False, {})) == ["ab"]
