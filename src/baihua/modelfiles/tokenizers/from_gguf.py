"""The tokenizer of a GGUF file as the files of a model folder, with the ids of llama.cpp."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gguf.constants import TokenType

from baihua.core.errors import InputError
from baihua.modelfiles.gguf_header import AGAIN, FROM_FOLDER, GgufHeader
from baihua.modelfiles.special_tokens import special_tokens_of
from baihua.modelfiles.tokenizers import pretokenizer
from baihua.modelfiles.tokenizers.added_tokens import type_of
from baihua.modelfiles.tokenizers.sentence_piece import BPE_MODEL, Pieces, model_bytes, tokenizer_parts, unspellable

BYTE_LEVEL, SENTENCE_PIECE = "gpt2", "llama"
ADDED = (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
LATER = (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNUSED)
NOT_ADDED = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)


def tokenizer_files(header: GgufHeader, where: Path) -> dict[str, bytes]:
    """Contents by file name: tokenizer.json and its settings, the template, and SentencePiece's tokenizer.model."""
    kind = header.values.get("tokenizer.ggml.model")
    if kind not in (BYTE_LEVEL, SENTENCE_PIECE):
        what = f"the file's tokenizer is of the kind {kind!r}, expected 'gpt2' (byte-level) or 'llama' (SentencePiece)"
        raise InputError(what, where=str(where), fix=FROM_FOLDER)
    tokens, types = _tokens(header, where)
    special, files = special_tokens_of(header), dict[str, bytes]()
    if kind == BYTE_LEVEL:
        adds_bos, parts = _byte_level(header, tokens, where)
    else:
        adds_bos = _flag(header, "add_bos_token", True)
        pieces = _pieces(header, tokens, types, where)
        parts = tokenizer_parts(pieces)
        # No tokenizer.model holds the tokens that were added behind its pieces.
        count = max(i for i, kind in enumerate(types) if kind not in LATER) + 1
        ids = {name: token_id for name, token_id in pieces.ids.items() if token_id < count}
        first = replace(pieces, texts=tokens[:count], scores=pieces.scores[:count], types=types[:count], ids=ids)
        files["tokenizer.model"] = model_bytes(first)
    if adds_bos and special.bos is not None:
        parts["post_processor"] = _begin_with(tokens[special.bos], special.bos)
    added = [
        {"id": i, "content": token, **NOT_ADDED, "special": kind != TokenType.USER_DEFINED}
        for i, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in ADDED
    ]
    content = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, **parts}
    names = {f"{name}_token": tokens[i] for name, i in special.by_name.items() if i < len(tokens)}
    # Other classes build their own tokenizer and ignore parts of tokenizer.json.
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **names, "add_bos_token": adds_bos}
    settings |= {"clean_up_tokenization_spaces": False, "model_max_length": header.size("context_length")}
    ends = special.ends[0] if len(special.ends) == 1 else list(special.ends) or None
    generation = {"bos_token_id": special.bos, "eos_token_id": ends, "pad_token_id": special.pad}
    generation = {name: value for name, value in generation.items() if value is not None}
    contents = {"tokenizer": content, "tokenizer_config": settings, "generation_config": generation}
    for name, value in contents.items():
        files[f"{name}.json"] = (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode("utf-8")
    if isinstance(template := header.values.get("tokenizer.chat_template"), str):
        files["chat_template.jinja"] = template.encode("utf-8")
    return files


def _tokens(header: GgufHeader, where: Path) -> tuple[list[str], list[TokenType]]:
    """Every token with the type that llama.cpp gives it; rows at the end that have no token are left out."""
    tokens, given = header.values.get("tokenizer.ggml.tokens"), header.values.get("tokenizer.ggml.token_type")
    if not isinstance(tokens, list) or not isinstance(given, list) or len(tokens) != len(given) or not tokens:
        raise InputError("the file does not list its tokens with a type for each", where=str(where), fix=AGAIN)
    texts = [str(token) for token in tokens]
    # The header keeps bytes that are not UTF-8 as lone surrogates.
    broken = next((i for i, text in enumerate(texts) if any("\ud800" <= char <= "\udfff" for char in text)), None)
    if broken is not None:
        what = f"the token with id {broken:,} is not UTF-8 text, which a tokenizer.json requires"
        raise InputError(what, where=str(where), fix=FROM_FOLDER)
    types = [type_of(text, TokenType(int(kind))) for text, kind in zip(texts, given, strict=True)]
    last = max(i for i, kind in enumerate(types) if kind != TokenType.UNUSED)
    return texts[: last + 1], types[: last + 1]


def _byte_level(header: GgufHeader, tokens: Sequence[str], where: Path) -> tuple[bool, dict[str, Any]]:
    """Whether texts begin with a token, and the entries of tokenizer.json.

    A Qwen's tokenizer.json composes characters (NFC) first; llama.cpp does not, so neither does this one.
    """
    given = str(header.values.get("tokenizer.ggml.pre", "default"))
    name = pretokenizer.ALIASES.get(given, given)
    pre_tokenizer = pretokenizer.build(name, where)
    merges = header.values.get("tokenizer.ggml.merges")
    if not isinstance(merges, list):
        raise InputError("the file has a byte-level tokenizer without merges", where=str(where), fix=AGAIN)
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    model = BPE_MODEL | {"ignore_merges": name in pretokenizer.IGNORES_MERGES}
    model |= {"vocab": {token: i for i, token in enumerate(tokens)}}
    parts = {
        "normalizer": None,
        "pre_tokenizer": json.loads(pre_tokenizer.__getstate__()),
        "decoder": byte_level,
        "post_processor": byte_level | {"add_prefix_space": False, "trim_offsets": False},
        "model": model | {"merges": [str(merge).split(" ", 1) for merge in merges]},
    }
    return _flag(header, "add_bos_token", name in pretokenizer.BEGINS_TEXTS), parts


def _pieces(header: GgufHeader, tokens: list[str], types: list[TokenType], where: Path) -> Pieces:
    scores = header.values.get("tokenizer.ggml.scores")
    if not isinstance(scores, list):
        raise InputError("the file has a SentencePiece tokenizer without scores", where=str(where), fix=AGAIN)
    given, adds_space = [float(score) for score in scores[: len(tokens)]], _flag(header, "add_space_prefix", True)
    pieces = Pieces(tokens, given, types, adds_space, special_tokens_of(header).by_name)
    if found := unspellable(pieces):
        what = f"{len(found):,} pieces contain a character that is not a piece itself, the first is {found[0]!r}"
        raise InputError(f"{what}; a tokenizer.json cannot express that", where=str(where), fix=FROM_FOLDER)
    return pieces


def _begin_with(token: str, token_id: int) -> dict[str, Any]:
    begin = [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    return {
        "type": "TemplateProcessing",
        "single": begin,
        "pair": [*begin, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [token_id], "tokens": [token]}},
    }


def _flag(header: GgufHeader, name: str, default: bool) -> bool:
    return bool(header.values.get(f"tokenizer.ggml.{name}", default))
