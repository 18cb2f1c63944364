"""Tokens beside the pieces of a tokenizer: those that llama.cpp would find elsewhere in a text are refused."""

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gguf.constants import TokenType

from baihua.core.errors import InputError
from baihua.modelfiles.tokenizers.pretokenizer import IGNORES_MERGES, build
from baihua.modelfiles.tokenizers.sentence_piece import SPACE, is_plain, splits

FLAGS = ("lstrip", "rstrip", "single_word")


def check_words(tokenizer_json: Mapping[str, Any], where: Path) -> None:
    """Refuse added words that are found in other places by llama.cpp, which takes the text of a word as it is.

    Only words: the name of a control in a text is never the control.
    """
    words = [token for token in tokenizer_json.get("added_tokens", ()) if not token["special"]]
    for word in words:
        found = [flag for flag in FLAGS if word.get(flag)]
        if word.get("normalized") and _changes(tokenizer_json.get("normalizer"), word["content"]):
            found.append("normalized")
        if found:
            raise InputError(
                f"the added token {word['content']!r} has {found[0]}=true, which llama.cpp does not know",
                where=str(where),
                fix=f"add the token with {found[0]}=False before the model is trained",
            )
    pair = _overlap([word["content"] for word in words])
    if pair is not None:
        raise InputError(
            f"the end of the added token {pair[0]!r} is the beginning of {pair[1]!r}; where they overlap, the first "
            "one is found here, the longest one by llama.cpp",
            where=str(where),
            fix="leave one of them out before the model is trained",
        )


def check_unspelled(tokens: Sequence[str], types: Sequence[TokenType], pre: str, where: Path) -> None:
    """Refuse two tokens of one text, and controls that llama.cpp would make of a text's ordinary pieces."""
    ids: dict[str, int] = {}
    for i, text in enumerate(tokens):
        if ids.setdefault(text, i) != i:
            raise InputError(
                f"the tokens {ids[text]:,} and {i:,} have the same text {text!r}",
                where=str(where),
                fix="rename the one that was added",
            )
    plain = {text: kind for text, kind in zip(tokens, types, strict=True) if is_plain(kind)}
    for text, kind in zip(tokens, types, strict=True):
        # llama.cpp takes added words out of a text before it joins pieces; it joins a space to them, though.
        is_apart = is_plain(kind) or (kind == TokenType.USER_DEFINED and SPACE not in text)
        if not is_apart and _is_spelled(text, plain, pre, where):
            raise InputError(
                f"the token {text!r} is no ordinary one, but llama.cpp would make it of ordinary text",
                where=str(where),
                fix="give it a name in brackets, such as <|name|>, before the model is trained",
            )


def _is_spelled(text: str, plain: Mapping[str, TokenType], pre: str, where: Path) -> bool:
    if pre == "default":
        return any(splits(text, plain))
    if pre not in IGNORES_MERGES:
        return False
    words = build(pre, where).pre_tokenize_str(text)
    return [word for word, _ in words] == [text]


def _changes(normalizer: Mapping[str, Any] | None, text: str) -> bool:
    """Whether a word is searched under another spelling than its own."""
    if normalizer is None:
        return False
    return normalizer["type"] != "NFC" or unicodedata.normalize("NFC", text) != text


def _overlap(words: Sequence[str]) -> tuple[str, str] | None:
    begins = {word[:i]: word for word in words for i in range(1, len(word))}
    for word in words:
        for i in range(1, len(word)):
            other = begins.get(word[i:])
            if other is not None and other != word:
                return word, other
    return None
