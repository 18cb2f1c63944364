"""The tokenizer of a GGUF file as the files of a model folder, with the ids of llama.cpp."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gguf.constants import TokenType

from baihua.core.errors import InputError
from baihua.modelfiles.gguf_config import FROM_FOLDER
from baihua.modelfiles.gguf_header import GgufHeader
from baihua.modelfiles.special_tokens import special_tokens_of
from baihua.modelfiles.tokenizers import pretokenizer, sentence_piece
from baihua.modelfiles.tokenizers.llama_cpp_names import type_of
from baihua.modelfiles.tokenizers.sentence_piece import Pieces

BYTE_LEVEL, SENTENCE_PIECE = "gpt2", "llama"
ADDED = (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
LATER = (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNUSED)
NO_TRIM = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}


def tokenizer_files(header: GgufHeader, where: Path) -> dict[str, bytes]:
    """Contents by file name: tokenizer.json and its settings, the template, and SentencePiece's tokenizer.model."""
    kind = header.values.get("tokenizer.ggml.model")
    if kind not in (BYTE_LEVEL, SENTENCE_PIECE):
        raise InputError(
            f"the file's tokenizer is of the kind {kind!r}, expected 'gpt2' (byte-level BPE) or 'llama' "
            "(SentencePiece)",
            where=str(where),
            fix=FROM_FOLDER,
        )
    tokens, types = _tokens(header, where)
    files: dict[str, bytes] = {}
    if kind == BYTE_LEVEL:
        adds_bos, parts = _byte_level(header, tokens, where)
    else:
        adds_bos = _flag(header, "add_bos_token", True)
        pieces = _pieces(header, tokens, types, where)
        parts = sentence_piece.tokenizer_parts(pieces)
        files["tokenizer.model"] = sentence_piece.model_bytes(_without_later(pieces))
    bos = special_tokens_of(header).bos if adds_bos else None
    if bos is not None:
        parts["post_processor"] = _begin_with(tokens[bos], bos)
    added = [_added(token, i, types[i]) for i, token in enumerate(tokens) if types[i] in ADDED]
    content = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, **parts}
    files["tokenizer.json"] = _json_bytes(content)
    files["tokenizer_config.json"] = _json_bytes(_settings(header, adds_bos, tokens))
    files["generation_config.json"] = _json_bytes(_generation(header))
    template = header.values.get("tokenizer.chat_template")
    if isinstance(template, str):
        files["chat_template.jinja"] = template.encode("utf-8")
    return files


def _tokens(header: GgufHeader, where: Path) -> tuple[list[str], list[TokenType]]:
    """Every token with the type that llama.cpp gives it; rows at the end that have no token are left out."""
    tokens, given = header.values.get("tokenizer.ggml.tokens"), header.values.get("tokenizer.ggml.token_type")
    if not isinstance(tokens, list) or not isinstance(given, list) or len(tokens) != len(given) or not tokens:
        raise InputError(
            "the file does not list its tokens and the type of each",
            where=str(where),
            fix="download or convert the file again",
        )
    texts = [str(token) for token in tokens]
    # The header keeps bytes that are no UTF-8 as lone surrogates.
    broken = next((i for i, text in enumerate(texts) if any("\ud800" <= char <= "\udfff" for char in text)), None)
    if broken is not None:
        raise InputError(
            f"the token with id {broken:,} is no UTF-8 text, which a tokenizer.json cannot hold",
            where=str(where),
            fix=FROM_FOLDER,
        )
    types = [type_of(text, TokenType(int(kind))) for text, kind in zip(texts, given, strict=True)]
    last = max(i for i, kind in enumerate(types) if kind != TokenType.UNUSED)
    return texts[: last + 1], types[: last + 1]


def _byte_level(header: GgufHeader, tokens: Sequence[str], where: Path) -> tuple[bool, dict[str, Any]]:
    """Whether texts begin with a token, and the entries of tokenizer.json.

    A Qwen's composes characters (NFC) before it cuts; llama.cpp does not, so neither does this one.
    """
    name = pretokenizer.canonical(str(header.values.get("tokenizer.ggml.pre", "default")))
    pre_tokenizer = pretokenizer.build(name, where)
    merges = header.values.get("tokenizer.ggml.merges")
    if not isinstance(merges, list):
        raise InputError(
            "the file has a byte-level tokenizer without merges",
            where=str(where),
            fix="download or convert the file again",
        )
    parts = {
        "normalizer": None,
        "pre_tokenizer": json.loads(pre_tokenizer.__getstate__()),
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "post_processor": NO_TRIM,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": name in pretokenizer.IGNORES_MERGES,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [str(merge).split(" ", 1) for merge in merges],
        },
    }
    return _flag(header, "add_bos_token", name in pretokenizer.BEGINS_TEXTS), parts


def _pieces(header: GgufHeader, tokens: list[str], types: list[TokenType], where: Path) -> Pieces:
    scores = header.values.get("tokenizer.ggml.scores")
    if not isinstance(scores, list):
        raise InputError(
            "the file has a SentencePiece tokenizer without scores",
            where=str(where),
            fix="download or convert the file again",
        )
    pieces = Pieces(
        texts=tokens,
        scores=[float(score) for score in scores[: len(tokens)]],
        types=types,
        adds_space=_flag(header, "add_space_prefix", True),
        ids=special_tokens_of(header).by_name,
    )
    unspellable = sentence_piece.unspellable(pieces)
    if unspellable:
        raise InputError(
            f"{len(unspellable):,} pieces hold a character that is no piece itself, the first is {unspellable[0]!r}; "
            "a tokenizer.json cannot be like that",
            where=str(where),
            fix=FROM_FOLDER,
        )
    return pieces


def _without_later(pieces: Pieces) -> Pieces:
    """The pieces without the tokens that were added behind them, which no tokenizer.model has."""
    count = max(i for i, kind in enumerate(pieces.types) if kind not in LATER) + 1
    ids = {name: token_id for name, token_id in pieces.ids.items() if token_id < count}
    return Pieces(pieces.texts[:count], pieces.scores[:count], pieces.types[:count], pieces.adds_space, ids)


def _added(token: str, token_id: int, kind: TokenType) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token_id, "content": token, **flags, "special": kind != TokenType.USER_DEFINED}


def _begin_with(token: str, token_id: int) -> dict[str, Any]:
    begin = [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    return {
        "type": "TemplateProcessing",
        "single": begin,
        "pair": [*begin, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [token_id], "tokens": [token]}},
    }


def _settings(header: GgufHeader, adds_bos: bool, tokens: Sequence[str]) -> dict[str, Any]:
    ids = special_tokens_of(header).by_name
    return {
        # Other classes build a tokenizer of their own and leave parts of tokenizer.json aside.
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{f"{name}_token": tokens[token_id] for name, token_id in ids.items() if token_id < len(tokens)},
        "add_bos_token": adds_bos,
        "clean_up_tokenization_spaces": False,
        "model_max_length": header.size("context_length"),
    }


def _generation(header: GgufHeader) -> dict[str, Any]:
    special = special_tokens_of(header)
    ends = special.ends[0] if len(special.ends) == 1 else list(special.ends) or None
    ids = {"bos_token_id": special.bos, "eos_token_id": ends, "pad_token_id": special.pad}
    return {name: value for name, value in ids.items() if value is not None}


def _flag(header: GgufHeader, name: str, default: bool) -> bool:
    return bool(header.values.get(f"tokenizer.ggml.{name}", default))


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode("utf-8")
