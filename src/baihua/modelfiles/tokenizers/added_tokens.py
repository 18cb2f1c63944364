"""Added and control tokens: their types in llama.cpp, and those that it would find elsewhere in a text than we do."""

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gguf.constants import TokenType

from baihua.core.errors import InputError
from baihua.modelfiles.tokenizers.pretokenizer import IGNORES_MERGES, build
from baihua.modelfiles.tokenizers.sentence_piece import SPACE, splits

FLAGS = ("lstrip", "rstrip", "single_word")
# Tokens that llama.cpp knows by their names, whatever type a GGUF file gives them: `llama_vocab::impl::load` in
# https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp
_ENDS = """
<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> <|endoftext|> </s> <|eom_id|> <EOT>
_<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance> <eos> <turn|> <|tool_response> [e~[ <｜end▁of▁sentence｜>
"""
_MIDDLES = """
<|fim_prefix|> <fim-prefix> <fim_prefix> <PRE> ▁<PRE> <|code_prefix|> <|prefix|> <｜fim▁begin｜>
<|fim_suffix|> <fim-suffix> <fim_suffix> <SUF> ▁<SUF> <|code_suffix|> <|suffix|> <｜fim▁hole｜>
<|fim_middle|> <fim-middle> <fim_middle> <MID> ▁<MID> <|code_middle|> <|middle|> <｜fim▁end｜>
<|fim_pad|> <fim-pad> <fim_pad> <PAD> [PAD] <|fim_repo|> <|repo_name|> <fim-repo> <REPO> <reponame> <|file_sep|>
"""
ENDS = frozenset(_ENDS.split())
"""Control tokens that end an answer."""
MIDDLES = frozenset(_MIDDLES.split())
"""Control tokens for filling in the middle of a text."""
NO_CONTROLS = frozenset({"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"})
"""Never control tokens: a text that contains such a name contains the token."""


def type_of(name: str, given: TokenType) -> TokenType:
    """The type that llama.cpp gives a token that is not an ordinary one.

    It makes an ordinary token of such a name a control token too; that changes no text's ids.
    """
    if given == TokenType.NORMAL:
        return given
    if name in NO_CONTROLS:
        return TokenType.USER_DEFINED
    return TokenType.CONTROL if name in ENDS or name in MIDDLES else given


def check_words(tokenizer_json: Mapping[str, Any], where: Path) -> None:
    """Refuse added words that llama.cpp, which searches for their plain text, finds in other places than we do.

    Control tokens are not searched for: their name in a text is plain text.
    """
    words = [token for token in tokenizer_json.get("added_tokens", ()) if not token["special"]]
    normalizer = tokenizer_json.get("normalizer")
    for word in words:
        text = word["content"]
        found = [flag for flag in FLAGS if word.get(flag)]
        is_stable = normalizer is None or (normalizer["type"] == "NFC" and unicodedata.is_normalized("NFC", text))
        if word.get("normalized") and not is_stable:
            found.append("normalized")
        if found:
            what = f"the added token {text!r} has {found[0]}=true, which llama.cpp does not support"
            fix = f"add the token with {found[0]}=False before the model is trained"
            raise InputError(what, where=str(where), fix=fix)
    texts = [word["content"] for word in words]
    begins = {text[:i]: text for text in texts for i in range(1, len(text))}
    for text in texts:
        others = (begins.get(text[i:], text) for i in range(1, len(text)))
        other = next((other for other in others if other != text), None)
        if other is not None:
            what = f"the end of the added token {text!r} is the beginning of {other!r}"
            why = "where they overlap, this tokenizer finds the first one, llama.cpp the longest"
            raise InputError(f"{what}; {why}", where=str(where), fix="remove one of them before the model is trained")


def check_unspelled(tokens: Sequence[str], types: Sequence[TokenType], pre: str, where: Path) -> None:
    """Refuse two tokens of one text, and special tokens that llama.cpp would make from a text's ordinary pieces."""
    ids: dict[str, int] = {}
    for i, text in enumerate(tokens):
        if ids.setdefault(text, i) != i:
            what = f"the tokens {ids[text]:,} and {i:,} have the same text {text!r}"
            raise InputError(what, where=str(where), fix="rename the one that was added")
    plain = {text: i for text, i in ids.items() if types[i] == TokenType.NORMAL}
    for text, kind in zip(tokens, types, strict=True):
        # llama.cpp takes added words out of a text before it joins pieces; it joins a space to them, though.
        is_apart = kind == TokenType.NORMAL or (kind == TokenType.USER_DEFINED and SPACE not in text)
        if not is_apart and _is_spelled(text, plain, pre, where):
            what = f"the token {text!r} is not an ordinary one, but llama.cpp would make it from ordinary text"
            fix = "give it a name in brackets, such as <|name|>, before the model is trained"
            raise InputError(what, where=str(where), fix=fix)


def _is_spelled(text: str, plain: Mapping[str, int], pre: str, where: Path) -> bool:
    if pre == "default":
        return any(splits(text, plain))
    return pre in IGNORES_MERGES and [word for word, _ in build(pre, where).pre_tokenize_str(text)] == [text]
