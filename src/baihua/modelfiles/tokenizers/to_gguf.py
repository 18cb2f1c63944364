"""A model folder's tokenizer as the metadata of a GGUF file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gguf import GGUFWriter
from gguf.constants import TokenType

from baihua.core.errors import InputError
from baihua.modelfiles.folder import TOKENIZER_SETTINGS, read_json
from baihua.modelfiles.special_tokens import GGUF_NAMES, read_special_tokens, token_text
from baihua.modelfiles.tokenizers.added_tokens import ENDS, check_unspelled, check_words, type_of
from baihua.modelfiles.tokenizers.pretokenizer import name_of
from baihua.modelfiles.tokenizers.sentence_piece import read_json_pieces, read_model_pieces

# llama.cpp never makes a token of this score from text: `check_unspelled` has refused those that it could make.
ADDED_SCORE = -1e4


@dataclass(slots=True)
class Vocabulary:
    """Tokens by id with their types, and the fields of one of the two kinds of tokenizer."""

    tokens: list[str]
    types: list[TokenType]
    adds_bos: bool
    model: str = "gpt2"
    pre: str = ""
    adds_space: bool = False
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def write(self, writer: GGUFWriter) -> None:
        """Add everything to the file's metadata."""
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
    tokenizer_json, settings = read_json(folder / "tokenizer.json"), read_json(folder / TOKENIZER_SETTINGS)
    # Rows of the embedding without a token get a name that no text contains.
    names = [f"[PAD{i}]" for i in range(num_tokens)]
    vocabulary = Vocabulary(names, [TokenType.UNUSED] * num_tokens, adds_bos)
    model = tokenizer_json.get("model", {})
    if model.get("type") == "BPE" and not model.get("byte_fallback"):
        vocabulary.pre = name_of(tokenizer_json, folder / "tokenizer.json")
        _fill(vocabulary, model["vocab"], folder)
        vocabulary.merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    elif model.get("type") == "BPE" or (not tokenizer_json and (folder / "tokenizer.model").is_file()):
        _fill_sentence_piece(vocabulary, tokenizer_json, settings, folder)
    else:
        expected = "expected a tokenizer.json with BPE, or a tokenizer.model of SentencePiece"
        found = "another tokenizer.json" if tokenizer_json else "neither"
        what = f"no tokenizer that can be converted: {expected}; found {found}"
        fix = "copy the base model's tokenizer files into the folder, or use a base model with BPE"
        raise InputError(what, where=str(folder), fix=fix)
    check_words(tokenizer_json, folder / "tokenizer.json")
    added = tokenizer_json.get("added_tokens")
    _mark_added(vocabulary, _added_without_json(folder, settings) if added is None else added, folder)
    check_unspelled(vocabulary.tokens, vocabulary.types, vocabulary.pre, folder)
    return vocabulary


def write_special_ids(folder: Path, vocabulary: Vocabulary, writer: GGUFWriter) -> None:
    """Name the tokens that begin, end and pad a text, and others that end an answer.

    A GGUF file has two more keys for those others; the ones that llama.cpp knows by name need none.
    """
    special = read_special_tokens(folder, {token: i for i, token in enumerate(vocabulary.tokens)})
    for name, token_id in special.by_name.items():
        writer.add_uint32(f"tokenizer.ggml.{GGUF_NAMES[name]}_token_id", token_id)
    ids = [token_id for token_id in special.ends if token_id != special.eos]
    nameless = [token_id for token_id in ids if vocabulary.tokens[token_id] not in ENDS]
    if len(nameless) > 2:
        names = ", ".join(repr(vocabulary.tokens[token_id]) for token_id in nameless)
        what = f"besides the end of a text, {len(nameless)} tokens end an answer: {names}; a GGUF file can name two"
        fix = "leave at most two of them in eos_token_id"
        raise InputError(what, where=str(folder / "generation_config.json"), fix=fix)
    nameless += [token_id for token_id in ids if token_id not in nameless]
    for token_id, add_id in zip(nameless, (writer.add_eot_token_id, writer.add_eom_token_id), strict=False):
        add_id(token_id)


def _fill_sentence_piece(
    vocabulary: Vocabulary, tokenizer_json: Mapping[str, Any], settings: Mapping[str, Any], folder: Path
) -> None:
    file = folder / "tokenizer.model"
    pieces = read_model_pieces(file) if file.is_file() else None
    if tokenizer_json:
        vocab = tokenizer_json["model"]["vocab"]
        # A tokenizer.json that was extended without its tokenizer.model would be converted wrongly.
        if pieces is not None and vocab != {text: i for i, text in enumerate(pieces.texts)}:
            found = f"tokenizer.json ({len(vocab):,} pieces) and tokenizer.model ({len(pieces.texts):,})"
            fix = "remove the one that the model was not trained with"
            raise InputError(f"{found} are different tokenizers", where=str(folder), fix=fix)
        # Where both exist, a model is trained with the tokenizer.json.
        unknown = tokenizer_json["model"].get("unk_token") or token_text(settings.get("unk_token")) or "<unk>"
        pieces = read_json_pieces(tokenizer_json, unknown, folder / "tokenizer.json")
    assert pieces is not None, "the caller has seen one of the two files"
    _fill(vocabulary, {text: i for i, text in enumerate(pieces.texts)}, folder)
    vocabulary.model, vocabulary.pre, vocabulary.adds_space = "llama", "default", pieces.adds_space
    vocabulary.scores = [*pieces.scores, *[ADDED_SCORE] * (len(vocabulary.tokens) - len(pieces.scores))]
    vocabulary.types[: len(pieces.types)] = pieces.types


def _added_without_json(folder: Path, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The added tokens of a folder that has a tokenizer.model only."""
    if described := settings.get("added_tokens_decoder"):
        return [{"special": False, **token, "id": int(token_id)} for token_id, token in described.items()]
    names = read_json(folder / "added_tokens.json")
    return [{"content": token, "id": token_id, "special": False} for token, token_id in names.items()]


def _fill(vocabulary: Vocabulary, ids: Mapping[str, int], folder: Path) -> None:
    _check_room(max(ids.values()), vocabulary, folder)
    for token, token_id in ids.items():
        vocabulary.tokens[token_id], vocabulary.types[token_id] = token, TokenType.NORMAL


def _mark_added(vocabulary: Vocabulary, added: list[dict[str, Any]], folder: Path) -> None:
    for token in added:
        token_id, text = token["id"], token["content"]
        _check_room(token_id, vocabulary, folder)
        vocabulary.tokens[token_id] = text
        if vocabulary.types[token_id] != TokenType.UNKNOWN:
            is_special = token["special"] or vocabulary.types[token_id] == TokenType.CONTROL
            vocabulary.types[token_id] = type_of(text, TokenType.CONTROL if is_special else TokenType.USER_DEFINED)


def _check_room(token_id: int, vocabulary: Vocabulary, folder: Path) -> None:
    if token_id >= (num_rows := len(vocabulary.tokens)):
        what = f"the tokenizer has a token with id {token_id:,}, the model's embedding has {num_rows:,} rows"
        fix = "the tokenizer belongs to another model; use the one that this model was trained with"
        raise InputError(what, where=str(folder), fix=fix)
