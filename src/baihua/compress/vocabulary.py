"""A model folder's tokenizer in the terms of GGUF."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gguf import GGUFWriter
from gguf.constants import TokenType
from sentencepiece import SentencePieceProcessor

from baihua.core.errors import InputError
from baihua.model.pretokenizer import name_of

SPACE = "\u2581"


@dataclass(slots=True)
class Vocabulary:
    """Tokens by id with their types, and what belongs to one of the two kinds of tokenizer."""

    tokens: list[str]
    types: list[TokenType]
    model: str
    pre: str
    adds_bos: bool
    adds_space: bool = False
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def write(self, writer: GGUFWriter) -> None:
        """Put everything into the file's metadata."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        if self.merges:
            writer.add_token_merges(self.merges)
        if self.scores:
            writer.add_token_scores(self.scores)
        writer.add_add_bos_token(self.adds_bos)
        writer.add_add_space_prefix(self.adds_space)


def read_vocabulary(folder: Path, num_tokens: int) -> Vocabulary:
    """The tokenizer of a model folder, filled up to the `num_tokens` rows of its embedding."""
    tokenizer_json = _read_json(folder / "tokenizer.json")
    settings = _read_json(folder / "tokenizer_config.json")
    if _is_byte_level(tokenizer_json):
        return _byte_level(tokenizer_json, settings, num_tokens, folder)
    if (folder / "tokenizer.model").is_file():
        return _sentence_piece(tokenizer_json, settings, num_tokens, folder)
    raise InputError(
        "no tokenizer that can be converted: expected a tokenizer.json with byte-level BPE, or a tokenizer.model "
        f"of SentencePiece; found {'another tokenizer.json' if tokenizer_json else 'neither'}",
        where=str(folder),
        fix="copy the base model's tokenizer.model into the folder, or use a base model with byte-level BPE",
    )


def write_special_ids(folder: Path, vocabulary: Vocabulary, writer: GGUFWriter) -> None:
    """Name the tokens that begin, end and pad a text, and a second one that ends an answer."""
    settings = _read_json(folder / "tokenizer_config.json")
    config = _read_json(folder / "config.json")
    ids = {token: i for i, token in enumerate(vocabulary.tokens)}
    add = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "pad": writer.add_pad_token_id,
        "unk": writer.add_unk_token_id,
    }
    found = {name: ids.get(_text(settings.get(f"{name}_token"))) for name in add}
    for name, add_id in add.items():
        first = next(iter(_as_list(config.get(f"{name}_token_id"))), None)
        found[name] = first if found[name] is None else found[name]
        if (token_id := found[name]) is not None:
            add_id(token_id)
    ends = _as_list(_read_json(folder / "generation_config.json").get("eos_token_id"))
    others = [token_id for token_id in ends if token_id != found["eos"]]
    if others:
        writer.add_eot_token_id(others[0])


def _byte_level(
    tokenizer_json: Mapping[str, Any], settings: Mapping[str, Any], num_tokens: int, folder: Path
) -> Vocabulary:
    model = tokenizer_json["model"]
    pre = name_of(tokenizer_json, folder / "tokenizer.json")
    vocabulary = _fill(model["vocab"], num_tokens, folder)
    _mark_added(vocabulary, tokenizer_json.get("added_tokens", []), folder)
    vocabulary.pre = pre
    vocabulary.adds_bos = bool(settings.get("add_bos_token"))
    vocabulary.merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return vocabulary


def _sentence_piece(
    tokenizer_json: Mapping[str, Any], settings: Mapping[str, Any], num_tokens: int, folder: Path
) -> Vocabulary:
    pieces = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    ids = {pieces.id_to_piece(i): i for i in range(pieces.get_piece_size())}
    _check_same_pieces(ids, tokenizer_json, folder)
    vocabulary = _fill(ids, num_tokens, folder)
    vocabulary.model, vocabulary.pre = "llama", "default"
    # Tokens that the tokenizer.model lacks are matched whole or not at all: the lowest score never merges into them.
    vocabulary.scores = [-1e4] * num_tokens
    for i in range(len(ids)):
        vocabulary.types[i] = _piece_type(pieces, i)
        vocabulary.scores[i] = pieces.get_score(i)
    if any(score != int(score) for score in vocabulary.scores):
        raise InputError(
            "the tokenizer.model is of SentencePiece's kind 'unigram'; llama.cpp applies the kind 'bpe' to a Llama",
            where=str(folder / "tokenizer.model"),
            fix="use a Llama base model, whose tokenizer.model is of the kind 'bpe'",
        )
    added = tokenizer_json.get("added_tokens")
    if added is None:
        names = _read_json(folder / "added_tokens.json")
        added = [{"content": token, "id": token_id, "special": False} for token, token_id in names.items()]
    _mark_added(vocabulary, added, folder)
    vocabulary.adds_bos = bool(settings.get("add_bos_token", True))
    vocabulary.adds_space = pieces.encode("a", out_type=str)[0].startswith(SPACE)
    return vocabulary


def _fill(ids: Mapping[str, int], num_tokens: int, folder: Path) -> Vocabulary:
    """Tokens in the order of their ids; rows of the embedding without a token get a name that no text contains."""
    _check_room(max(ids.values()), num_tokens, folder)
    tokens = [f"[PAD{i}]" for i in range(num_tokens)]
    types = [TokenType.UNUSED] * num_tokens
    for token, token_id in ids.items():
        tokens[token_id] = token
        types[token_id] = TokenType.NORMAL
    return Vocabulary(tokens, types, model="gpt2", pre="", adds_bos=False)


def _mark_added(vocabulary: Vocabulary, added: list[dict[str, Any]], folder: Path) -> None:
    for token in added:
        _check_room(token["id"], len(vocabulary.tokens), folder)
        vocabulary.tokens[token["id"]] = token["content"]
        is_special = token["special"] or vocabulary.types[token["id"]] == TokenType.CONTROL
        if vocabulary.types[token["id"]] != TokenType.UNKNOWN:
            vocabulary.types[token["id"]] = TokenType.CONTROL if is_special else TokenType.USER_DEFINED


def _check_room(token_id: int, num_tokens: int, folder: Path) -> None:
    if token_id >= num_tokens:
        raise InputError(
            f"the tokenizer has a token with id {token_id:,}, the model's embedding has {num_tokens:,} rows",
            where=str(folder),
            fix="the tokenizer belongs to another model; use the one this model was trained with",
        )


def _check_same_pieces(ids: Mapping[str, int], tokenizer_json: Mapping[str, Any], folder: Path) -> None:
    """A tokenizer.json that was extended without its tokenizer.model would be converted wrongly."""
    if not tokenizer_json:
        return
    other = tokenizer_json["model"]["vocab"]
    if dict(other) != dict(ids):
        raise InputError(
            f"tokenizer.json ({len(other):,} pieces) and tokenizer.model ({len(ids):,}) are different tokenizers",
            where=str(folder),
            fix="remove the one that the model was not trained with",
        )


def _piece_type(pieces: SentencePieceProcessor, token_id: int) -> TokenType:
    if pieces.is_unknown(token_id):
        return TokenType.UNKNOWN
    if pieces.is_control(token_id):
        return TokenType.CONTROL
    if pieces.is_byte(token_id):
        return TokenType.BYTE
    return TokenType.UNUSED if pieces.is_unused(token_id) else TokenType.NORMAL


def _is_byte_level(tokenizer_json: Mapping[str, Any]) -> bool:
    is_bpe = tokenizer_json.get("model", {}).get("type") == "BPE"
    return is_bpe and not tokenizer_json["model"].get("byte_fallback")


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _text(token: Any) -> str:
    return token.get("content", "") if isinstance(token, dict) else token or ""


def _as_list(value: int | list[int] | None) -> list[int]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
