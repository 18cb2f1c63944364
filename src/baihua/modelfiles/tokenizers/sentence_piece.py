"""SentencePiece's BPE in the terms of tokenizer.json, and its tokenizer.model without protobuf.

SentencePiece and llama.cpp join any two neighbours whose joint text is a piece, best score first; tokenizer.json lists
the pairs that may be joined, first pair first. Both are the same where every pair of every piece is listed.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gguf.constants import TokenType

SPACE = "\u2581"
PREPEND = {"type": "Prepend", "prepend": SPACE}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
BYTE_NAMES = tuple(f"<0x{byte:02X}>" for byte in range(256))

# Wire types and field numbers of
# https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
VARINT, LENGTH, FIXED_32 = 0, 2, 5
BPE = 2
MODEL = {"pieces": 1, "trainer_spec": 2, "normalizer_spec": 3}
PIECE = {"piece": 1, "score": 2, "type": 3}
TRAINER = {"model_type": 3, "vocab_size": 4, "byte_fallback": 35}
SPECIAL_IDS = {"unk": 40, "bos": 41, "eos": 42, "pad": 43}
SPECIAL_PIECES = {"unk": 45, "bos": 46, "eos": 47, "pad": 48}
NORMALIZER = {"name": 1, "add_dummy_prefix": 3, "remove_extra_whitespaces": 4, "escape_whitespaces": 5}


@dataclass(frozen=True, slots=True)
class Pieces:
    """The pieces of a SentencePiece tokenizer by id, and the ids of those that have a meaning."""

    texts: Sequence[str]
    scores: Sequence[float]
    types: Sequence[TokenType]
    adds_space: bool
    """Whether a text gets a space in front."""
    ids: Mapping[str, int]
    """Ids of `unk`, `bos`, `eos` and `pad`, where there are such."""


def splits(piece: str, texts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every way to make a piece of two others."""
    for i in range(1, len(piece)):
        if piece[:i] in texts and piece[i:] in texts:
            yield piece[:i], piece[i:]


def merges_of(pieces: Pieces) -> list[tuple[str, str]]:
    """The pairs of tokenizer.json that give the pieces of SentencePiece: best score first, then lowest id."""
    normal = {text: i for i, (text, kind) in enumerate(zip(pieces.texts, pieces.types, strict=True)) if is_plain(kind)}
    ranked = sorted(normal, key=lambda text: (-pieces.scores[normal[text]], normal[text]))
    return [pair for piece in ranked for pair in sorted(splits(piece, normal), key=_comes_late)]


def is_plain(kind: TokenType) -> bool:
    """Whether pieces of this type are joined from others and to others."""
    return kind == TokenType.NORMAL


def unspellable(pieces: Pieces) -> list[str]:
    """Pieces with a character that is no piece: llama.cpp would join it, tokenizer.json has bytes in its place."""
    plain = [text for text, kind in zip(pieces.texts, pieces.types, strict=True) if is_plain(kind)]
    known = set(plain)
    return [text for text in plain if len(text) > 1 and not known.issuperset(text)]


def tokenizer_parts(pieces: Pieces) -> dict[str, Any]:
    """The entries of a tokenizer.json that cut a text like SentencePiece; the added tokens are not among them."""
    end = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if pieces.adds_space else []
    unknown = pieces.ids.get("unk")
    steps = [PREPEND, REPLACE] if pieces.adds_space else [REPLACE]
    back = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, *end]},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None if unknown is None else pieces.texts[unknown],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {text: i for i, text in enumerate(pieces.texts)},
            "merges": merges_of(pieces),
        },
    }


def model_bytes(pieces: Pieces) -> bytes:
    """A tokenizer.model: SentencePiece's ModelProto, which keeps each text as it is but for the spaces."""
    rows = zip(pieces.texts, pieces.scores, pieces.types, strict=True)
    trainer = {"model_type": BPE, "vocab_size": len(pieces.texts), "byte_fallback": int(TokenType.BYTE in pieces.types)}
    # An id of -1 is SentencePiece's way to say that there is no such piece.
    ids = {name: pieces.ids.get(name, -1) for name in SPECIAL_IDS}
    names = {name: pieces.texts[token_id].encode("utf-8") for name, token_id in pieces.ids.items()}
    special = _message(SPECIAL_IDS, ids) + _message(SPECIAL_PIECES, names)
    rules = {
        "name": b"identity",
        "add_dummy_prefix": int(pieces.adds_space),
        "remove_extra_whitespaces": 0,
        "escape_whitespaces": 1,
    }
    return b"".join(
        [
            *(_field(MODEL["pieces"], _piece(*row)) for row in rows),
            _field(MODEL["trainer_spec"], _message(TRAINER, trainer) + special),
            _field(MODEL["normalizer_spec"], _message(NORMALIZER, rules)),
        ]
    )


def _comes_late(pair: tuple[str, str]) -> int:
    """-1, 0 or 1: which of a piece's pairs is joined first where two of them overlap in a text.

    The left one is, as in SentencePiece. Pairs (a, b) and (b, c) of one piece can overlap: b begins the piece as the
    left one's end, and ends it as the right one's beginning.
    """
    left, right = pair
    piece = left + right
    return int(piece.endswith(left)) - int(piece.startswith(right))


def _piece(text: str, score: float, kind: TokenType) -> bytes:
    return _message(PIECE, {"piece": text.encode("utf-8"), "score": score, "type": int(kind)})


def _message(numbers: Mapping[str, int], values: Mapping[str, bytes | float]) -> bytes:
    return b"".join(_field(numbers[name], value) for name, value in values.items())


def _field(number: int, value: bytes | float) -> bytes:
    if isinstance(value, bytes):
        return _varint(number << 3 | LENGTH) + _varint(len(value)) + value
    if isinstance(value, float):
        return _varint(number << 3 | FIXED_32) + struct.pack("<f", value)
    return _varint(number << 3 | VARINT) + _varint(value % 2**64)


def _varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; all but the last byte have their highest bit set."""
    return bytes(_groups(value))


def _groups(value: int) -> Iterable[int]:
    while value > 127:
        yield value & 127 | 128
        value >>= 7
    yield value
