"""SentencePiece in the terms of GGUF, from a tokenizer.json that was made of a tokenizer.model, or from that itself."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gguf.constants import TokenType
from sentencepiece import SentencePieceProcessor

from baihua.core.errors import InputError
from baihua.core.log import logger
from baihua.modelfiles.tokenizers.sentence_piece import BYTE_NAMES, PREPEND, REPLACE, SPACE, Pieces, is_plain, splits

METASPACE = {"type": "Metaspace", "replacement": SPACE, "split": False}
ORIGINAL = "use the model's original tokenizer.json"


def read_json_pieces(tokenizer_json: Mapping[str, Any], unknown: str, where: Path) -> Pieces:
    """The pieces of a tokenizer.json; an InputError for one that llama.cpp would not apply in the same way."""
    vocab: Mapping[str, int] = tokenizer_json["model"]["vocab"]
    names = {token_id: text for text, token_id in vocab.items()}
    texts = [names.get(i, f"[PAD{i}]") for i in range(max(names) + 1)]
    missing = [name for name in BYTE_NAMES if name not in vocab]
    if missing:
        raise InputError(
            f"the tokenizer lacks {len(missing)} of the 256 pieces for single bytes, the first is {missing[0]}; "
            "llama.cpp needs them for what has no piece",
            where=str(where),
            fix="use a tokenizer that was trained with byte_fallback",
        )
    types = [_type(text, unknown) if text in vocab else TokenType.UNUSED for text in texts]
    plain = {text: vocab[text] for text, kind in zip(texts, types, strict=True) if is_plain(kind)}
    scores = _scores(tokenizer_json["model"].get("merges", []), plain, where)
    adds_space = _adds_space(tokenizer_json, where)
    return Pieces(texts, [scores.get(text, -float(len(vocab))) for text in texts], types, adds_space, {})


def read_model_pieces(file: Path) -> Pieces:
    """The pieces of a tokenizer.model; an InputError for one of SentencePiece's other kind."""
    model = SentencePieceProcessor(model_file=str(file))
    ids = range(model.get_piece_size())
    scores = [model.get_score(i) for i in ids]
    if any(score != int(score) for score in scores):
        raise InputError(
            "the tokenizer.model is of SentencePiece's kind 'unigram'; llama.cpp applies the kind 'bpe' to a Llama",
            where=str(file),
            fix="use a Llama base model, whose tokenizer.model is of the kind 'bpe'",
        )
    texts = [model.id_to_piece(i) for i in ids]
    adds_space = model.encode("a", out_type=str)[0].startswith(SPACE)
    return Pieces(texts, scores, [_model_type(model, i) for i in ids], adds_space, {})


def check_same_pieces(pieces: Pieces, tokenizer_json: Mapping[str, Any], folder: Path) -> None:
    """A tokenizer.json that was extended without its tokenizer.model would be converted wrongly."""
    other = tokenizer_json["model"]["vocab"]
    if dict(other) != {text: i for i, text in enumerate(pieces.texts)}:
        raise InputError(
            f"tokenizer.json ({len(other):,} pieces) and tokenizer.model ({len(pieces.texts):,}) are different "
            "tokenizers",
            where=str(folder),
            fix="remove the one that the model was not trained with",
        )


def _scores(merges: Iterable[str | list[str]], plain: Mapping[str, int], where: Path) -> dict[str, float]:
    """Scores, 0 is the best, with which llama.cpp joins pieces in the order of the merges.

    It joins any two neighbours that make a piece, the piece with the best score first. That is the same only where
    the merges list every pair of a piece, and piece after piece.
    """
    pairs = [tuple(merge.split(" ", 1) if isinstance(merge, str) else merge) for merge in merges]
    scores: dict[str, float] = {}
    last = apart = None
    for left, right in pairs:
        piece = left + right
        if piece != last and piece in scores:
            apart = piece
        scores.setdefault(piece, float(-len(scores)))
        last = piece
    known = set(pairs)
    left_out = next((pair for piece in plain for pair in splits(piece, plain) if pair not in known), None)
    if apart is not None or left_out is not None:
        found = f"the pair {left_out} is left out" if apart is None else f"the pairs of {apart!r} do not stand together"
        raise InputError(
            f"the merges are not those of SentencePiece, and llama.cpp would join others: {found}",
            where=str(where),
            fix="list every pair that makes a piece, piece after piece, as transformers does for a tokenizer.model",
        )
    return scores


def _adds_space(tokenizer_json: Mapping[str, Any], where: Path) -> bool:
    """Whether texts get a space in front; an InputError for a tokenizer.json that changes texts in another way."""
    normalizer, pre_tokenizer = tokenizer_json.get("normalizer"), tokenizer_json.get("pre_tokenizer")
    steps = normalizer.get("normalizers", [normalizer]) if normalizer else []
    scheme = (pre_tokenizer or {}).get("prepend_scheme")
    if pre_tokenizer is None and steps in ([REPLACE], [PREPEND, REPLACE]):
        return PREPEND in steps
    has_words = any(not token["special"] for token in tokenizer_json.get("added_tokens", ()))
    is_known = scheme in ("always", "never") or (scheme == "first" and not has_words)
    if steps or not is_known or pre_tokenizer != METASPACE | {"prepend_scheme": scheme}:
        raise InputError(
            f"the tokenizer changes texts in a way that llama.cpp does not: normalizer {normalizer}, pre_tokenizer "
            f"{pre_tokenizer}" + (", with added words" if has_words else ""),
            where=str(where),
            fix=ORIGINAL,
        )
    if scheme != "never":
        logger.warning(
            "%s: this tokenizer (Metaspace) puts no space before a text that begins with one, SentencePiece and "
            "llama.cpp do: token ids differ there. The original tokenizer.json (Prepend) agrees with them.",
            where,
        )
    return scheme != "never"


def _type(text: str, unknown: str) -> TokenType:
    """The type of an entry of a tokenizer.json's vocabulary, which does not say it."""
    if text == unknown:
        return TokenType.UNKNOWN
    return TokenType.BYTE if len(text) == 6 and text in BYTE_NAMES else TokenType.NORMAL


def _model_type(model: SentencePieceProcessor, token_id: int) -> TokenType:
    if model.is_unknown(token_id):
        return TokenType.UNKNOWN
    if model.is_control(token_id):
        return TokenType.CONTROL
    if model.is_byte(token_id):
        return TokenType.BYTE
    return TokenType.UNUSED if model.is_unused(token_id) else TokenType.NORMAL
