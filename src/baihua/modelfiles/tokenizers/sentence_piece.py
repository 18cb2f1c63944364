"""SentencePiece's BPE: its pieces read from a tokenizer.model or tokenizer.json, and written as either.

SentencePiece and llama.cpp join any two neighbours whose joint text is a piece, best score first; tokenizer.json lists
the pairs that may be joined, first pair first. Both give the same result where every pair of every piece is listed.
"""

import itertools
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gguf.constants import TokenType
from sentencepiece import SentencePieceProcessor

from baihua.core.errors import InputError
from baihua.core.log import logger

SPACE = "\u2581"
PREPEND = {"type": "Prepend", "prepend": SPACE}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
BPE_MODEL: dict[str, Any] = {
    "type": "BPE",
    **dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")),
    **dict.fromkeys(("fuse_unk", "byte_fallback", "ignore_merges"), False),
}
"""The settings of a BPE in tokenizer.json, in the order in which the library writes them."""
METASPACE = {"type": "Metaspace", "replacement": SPACE, "split": False}
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
    """The pieces of a SentencePiece tokenizer by id, and the ids of its special tokens."""

    texts: Sequence[str]
    scores: Sequence[float]
    types: Sequence[TokenType]
    adds_space: bool
    """Whether a text gets a space in front."""
    ids: Mapping[str, int]
    """Ids of `unk`, `bos`, `eos` and `pad`, where they exist."""

    @property
    def plain(self) -> dict[str, int]:
        """The ids of the pieces that are joined from others and to others, by their texts."""
        rows = enumerate(zip(self.texts, self.types, strict=True))
        return {text: i for i, (text, kind) in rows if kind == TokenType.NORMAL}


def read_model_pieces(file: Path) -> Pieces:
    """The pieces of a tokenizer.model; an InputError for one of SentencePiece's other kind."""
    model = SentencePieceProcessor(model_file=str(file))
    ids = range(model.get_piece_size())
    scores = [model.get_score(i) for i in ids]
    if any(score != int(score) for score in scores):
        raise InputError(
            "the tokenizer.model is of SentencePiece's kind 'unigram', expected 'bpe', which llama.cpp uses for Llamas",
            where=str(file),
            fix="use a Llama base model, whose tokenizer.model is of the kind 'bpe'",
        )
    tests = {
        TokenType.UNKNOWN: model.is_unknown,
        TokenType.CONTROL: model.is_control,
        TokenType.BYTE: model.is_byte,
        TokenType.UNUSED: model.is_unused,
    }
    types = [next((kind for kind, test in tests.items() if test(i)), TokenType.NORMAL) for i in ids]
    adds_space = model.encode("a", out_type=str)[0].startswith(SPACE)
    return Pieces([model.id_to_piece(i) for i in ids], scores, types, adds_space, {})


def read_json_pieces(tokenizer_json: Mapping[str, Any], unknown: str, where: Path) -> Pieces:
    """The pieces of a tokenizer.json; an InputError for one that llama.cpp would apply in another way."""
    vocab: Mapping[str, int] = tokenizer_json["model"]["vocab"]
    if missing := [name for name in BYTE_NAMES if name not in vocab]:
        what = f"the tokenizer lacks {len(missing)} of the 256 pieces for single bytes, the first is {missing[0]}"
        fix = "use a tokenizer that was trained with byte_fallback"
        raise InputError(f"{what}; llama.cpp needs them for characters without a piece", where=str(where), fix=fix)
    texts = [f"[PAD{i}]" for i in range(max(vocab.values()) + 1)]
    types = [TokenType.UNUSED] * len(texts)
    special = {unknown: TokenType.UNKNOWN} | dict.fromkeys(BYTE_NAMES, TokenType.BYTE)
    for text, i in vocab.items():
        texts[i], types[i] = text, special.get(text, TokenType.NORMAL)
    pieces = Pieces(texts, [], types, _adds_space(tokenizer_json, where), {})
    scores = _scores(tokenizer_json["model"].get("merges", []), pieces.plain, where)
    return replace(pieces, scores=[scores.get(text, -float(len(vocab))) for text in texts])


def splits(piece: str, texts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every way to make a piece from two others."""
    for i in range(1, len(piece)):
        if piece[:i] in texts and piece[i:] in texts:
            yield piece[:i], piece[i:]


def merges_of(pieces: Pieces) -> list[tuple[str, str]]:
    """The pairs of tokenizer.json that give the pieces of SentencePiece: best score first, then lowest id."""
    plain = pieces.plain
    ranked = sorted(plain, key=lambda text: (-pieces.scores[plain[text]], plain[text]))
    return [pair for piece in ranked for pair in sorted(splits(piece, plain), key=_overlap_rank)]


def unspellable(pieces: Pieces) -> list[str]:
    """Pieces with a character that is not a piece: llama.cpp would join it, tokenizer.json has bytes in its place."""
    plain = pieces.plain
    return [text for text in plain if len(text) > 1 and not plain.keys() >= set(text)]


def tokenizer_parts(pieces: Pieces) -> dict[str, Any]:
    """The entries of a tokenizer.json that tokenize like SentencePiece, without the added tokens."""
    unknown = pieces.texts[pieces.ids["unk"]] if "unk" in pieces.ids else None
    decoders = [REPLACE | {"pattern": {"String": SPACE}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
    if pieces.adds_space:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    model = BPE_MODEL | {"unk_token": unknown, "fuse_unk": True, "byte_fallback": True}
    return {
        "normalizer": {"type": "Sequence", "normalizers": [PREPEND, REPLACE] if pieces.adds_space else [REPLACE]},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": model | {"vocab": {text: i for i, text in enumerate(pieces.texts)}, "merges": merges_of(pieces)},
    }


def model_bytes(pieces: Pieces) -> bytes:
    """A tokenizer.model (SentencePiece's ModelProto) that changes nothing in a text but the spaces."""
    trainer = {"model_type": BPE, "vocab_size": len(pieces.texts), "byte_fallback": int(TokenType.BYTE in pieces.types)}
    # SentencePiece's id of a piece that does not exist is -1.
    ids = {name: pieces.ids.get(name, -1) for name in SPECIAL_IDS}
    names = {name: pieces.texts[token_id].encode("utf-8") for name, token_id in pieces.ids.items()}
    special = _message(SPECIAL_IDS, ids) + _message(SPECIAL_PIECES, names)
    rules = {"name": b"identity", "add_dummy_prefix": int(pieces.adds_space)}
    rules |= {"remove_extra_whitespaces": 0, "escape_whitespaces": 1}
    rows = zip(pieces.texts, pieces.scores, pieces.types, strict=True)
    found = ({"piece": text.encode("utf-8"), "score": score, "type": int(kind)} for text, score, kind in rows)
    parts = [_field(MODEL["pieces"], _message(PIECE, piece)) for piece in found]
    rest = {"trainer_spec": _message(TRAINER, trainer) + special, "normalizer_spec": _message(NORMALIZER, rules)}
    return b"".join(parts) + _message(MODEL, rest)


def _scores(merges: Iterable[str | list[str]], plain: Mapping[str, int], where: Path) -> dict[str, float]:
    """Scores, 0 is the best, with which llama.cpp joins pieces in the order of the merges.

    It joins any two neighbours that make a piece, the piece with the best score first. That gives the same result only
    where the merges list every pair of a piece, and piece after piece.
    """
    pairs = [tuple(merge.split(" ", 1) if isinstance(merge, str) else merge) for merge in merges]
    # One entry for each run of pairs that make the same piece.
    joined = [piece for piece, _ in itertools.groupby("".join(pair) for pair in pairs)]
    scores = {piece: float(-i) for i, piece in enumerate(dict.fromkeys(joined))}
    apart = next((piece for piece, count in Counter(joined).items() if count > 1), None)
    known = set(pairs)
    left_out = next((pair for piece in plain for pair in splits(piece, plain) if pair not in known), None)
    if apart is not None or left_out is not None:
        found = f"the pair {left_out} is missing" if apart is None else f"the pairs of {apart!r} are not consecutive"
        what = f"the merges are not SentencePiece's, and llama.cpp would join other pieces: {found}"
        fix = "list every pair that makes a piece, piece after piece, as transformers does for a tokenizer.model"
        raise InputError(what, where=str(where), fix=fix)
    return scores


def _adds_space(tokenizer_json: Mapping[str, Any], where: Path) -> bool:
    """Whether texts get a space in front; an InputError for a tokenizer.json that changes texts in another way."""
    normalizer, pre_tokenizer = tokenizer_json.get("normalizer"), tokenizer_json.get("pre_tokenizer")
    steps = normalizer.get("normalizers", [normalizer]) if normalizer else []
    if pre_tokenizer is None and steps in ([REPLACE], [PREPEND, REPLACE]):
        return PREPEND in steps
    scheme = (pre_tokenizer or {}).get("prepend_scheme")
    has_words = any(not token["special"] for token in tokenizer_json.get("added_tokens", ()))
    is_known = scheme in ("always", "never") or (scheme == "first" and not has_words)
    if steps or not is_known or pre_tokenizer != METASPACE | {"prepend_scheme": scheme}:
        found = f"normalizer {normalizer}, pre_tokenizer {pre_tokenizer}" + (", with added words" if has_words else "")
        what = f"the tokenizer changes texts in a way that llama.cpp does not: {found}"
        raise InputError(what, where=str(where), fix="use the model's original tokenizer.json")
    if scheme != "never":
        logger.warning(
            "%s: this tokenizer (Metaspace) puts no space before a text that begins with one, SentencePiece and "
            "llama.cpp do: token ids differ there. The original tokenizer.json (Prepend) agrees with them.",
            where,
        )
    return scheme != "never"


def _overlap_rank(pair: tuple[str, str]) -> int:
    """-1, 0 or 1: which of a piece's pairs is joined first where two of them overlap in a text.

    The left one is, as in SentencePiece. Pairs (a, b) and (b, c) of one piece can overlap: b begins the piece as the
    left one's end, and ends it as the right one's beginning.
    """
    left, right = pair
    piece = left + right
    return int(piece.endswith(left)) - int(piece.startswith(right))


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
    groups: list[int] = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])
