"""A model folder's tokenizer in the terms of GGUF."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gguf import GGUFWriter
from gguf.constants import TokenType

from baihua.core.errors import InputError
from baihua.modelfiles.folder import read_json
from baihua.modelfiles.special_tokens import GGUF_NAMES, read_special_tokens, token_text
from baihua.modelfiles.tokenizers.added_tokens import check_unspelled, check_words
from baihua.modelfiles.tokenizers.llama_cpp_names import ENDS, type_of
from baihua.modelfiles.tokenizers.pieces import check_same_pieces, read_json_pieces, read_model_pieces
from baihua.modelfiles.tokenizers.pretokenizer import name_of

# llama.cpp never makes a token of these scores of text: `check_unspelled` has seen to that.
ADDED_SCORE = -1e4


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


def read_vocabulary(folder: Path, num_tokens: int, *, adds_bos: bool) -> Vocabulary:
    """The tokenizer of a model folder, padded to the `num_tokens` rows of its embedding."""
    tokenizer_json = read_json(folder / "tokenizer.json")
    settings = read_json(folder / "tokenizer_config.json")
    kind = tokenizer_json.get("model", {})
    if kind.get("type") == "BPE" and not kind.get("byte_fallback"):
        vocabulary = _byte_level(tokenizer_json, num_tokens, folder)
    elif kind.get("type") == "BPE" or (not tokenizer_json and (folder / "tokenizer.model").is_file()):
        vocabulary = _sentence_piece(tokenizer_json, settings, num_tokens, folder)
    else:
        raise InputError(
            "no tokenizer that can be converted: expected a tokenizer.json with BPE, or a tokenizer.model of "
            f"SentencePiece; found {'another tokenizer.json' if tokenizer_json else 'neither'}",
            where=str(folder),
            fix="copy the base model's tokenizer files into the folder, or use a base model with BPE",
        )
    check_words(tokenizer_json, folder / "tokenizer.json")
    added = tokenizer_json.get("added_tokens")
    _mark_added(vocabulary, _added_without_json(folder, settings) if added is None else added, folder)
    check_unspelled(vocabulary.tokens, vocabulary.types, vocabulary.pre, folder)
    vocabulary.adds_bos = adds_bos
    return vocabulary


def write_special_ids(folder: Path, vocabulary: Vocabulary, writer: GGUFWriter) -> None:
    """Name the tokens that begin, end and pad a text, and others that end an answer."""
    special = read_special_tokens(folder, {token: i for i, token in enumerate(vocabulary.tokens)})
    for name, token_id in special.by_name.items():
        writer.add_uint32(f"tokenizer.ggml.{GGUF_NAMES[name]}_token_id", token_id)
    _write_ends([token_id for token_id in special.ends if token_id != special.eos], vocabulary, writer, folder)


def _write_ends(ids: list[int], vocabulary: Vocabulary, writer: GGUFWriter, folder: Path) -> None:
    """A GGUF file has two more places for ends; those that llama.cpp knows by name need none."""
    nameless = [token_id for token_id in ids if vocabulary.tokens[token_id] not in ENDS]
    if len(nameless) > 2:
        names = ", ".join(repr(vocabulary.tokens[token_id]) for token_id in nameless)
        raise InputError(
            f"{len(nameless)} tokens end an answer beside the end of a text: {names}; a GGUF file can name two",
            where=str(folder / "generation_config.json"),
            fix="leave at most two of them in eos_token_id",
        )
    named = [token_id for token_id in ids if token_id not in nameless]
    for token_id, add_id in zip(nameless + named, (writer.add_eot_token_id, writer.add_eom_token_id), strict=False):
        add_id(token_id)


def _byte_level(tokenizer_json: Mapping[str, Any], num_tokens: int, folder: Path) -> Vocabulary:
    model = tokenizer_json["model"]
    pre = name_of(tokenizer_json, folder / "tokenizer.json")
    vocabulary = _fill(model["vocab"], num_tokens, folder)
    vocabulary.pre = pre
    vocabulary.merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return vocabulary


def _sentence_piece(
    tokenizer_json: Mapping[str, Any], settings: Mapping[str, Any], num_tokens: int, folder: Path
) -> Vocabulary:
    file = folder / "tokenizer.model"
    pieces = read_model_pieces(file) if file.is_file() else None
    if tokenizer_json:
        if pieces is not None:
            check_same_pieces(pieces, tokenizer_json, folder)
        # Where both are there, a model is trained with the tokenizer.json.
        unknown = tokenizer_json["model"].get("unk_token") or token_text(settings.get("unk_token")) or "<unk>"
        pieces = read_json_pieces(tokenizer_json, unknown, folder / "tokenizer.json")
    assert pieces is not None, "one of the two is there"
    vocabulary = _fill({text: i for i, text in enumerate(pieces.texts)}, num_tokens, folder)
    vocabulary.model, vocabulary.pre = "llama", "default"
    vocabulary.scores = [*pieces.scores, *[ADDED_SCORE] * (num_tokens - len(pieces.scores))]
    vocabulary.types[: len(pieces.types)] = pieces.types
    vocabulary.adds_space = pieces.adds_space
    return vocabulary


def _added_without_json(folder: Path, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The added tokens of a folder that has a tokenizer.model only."""
    described = settings.get("added_tokens_decoder") or {}
    if described:
        return [{"special": False, **token, "id": int(token_id)} for token_id, token in described.items()]
    names = read_json(folder / "added_tokens.json")
    return [{"content": token, "id": token_id, "special": False} for token, token_id in names.items()]


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
            given = TokenType.CONTROL if is_special else TokenType.USER_DEFINED
            vocabulary.types[token["id"]] = type_of(token["content"], given)


def _check_room(token_id: int, num_tokens: int, folder: Path) -> None:
    if token_id >= num_tokens:
        raise InputError(
            f"the tokenizer has a token with id {token_id:,}, the model's embedding has {num_tokens:,} rows",
            where=str(folder),
            fix="the tokenizer belongs to another model; use the one this model was trained with",
        )
