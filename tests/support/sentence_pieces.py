"""Small SentencePiece tokenizers and model folders that use them."""

import json
import shutil
from pathlib import Path
from typing import Any

import sentencepiece
from gguf.constants import TokenType
from mixed_text import lines

from baihua.modelfiles.tokenizers.sentence_piece import read_model_pieces, tokenizer_parts

NUM_PIECES = 480


def train(folder: Path, kind: str = "bpe") -> Path:
    """A tokenizer.model of mixed lines."""
    (folder / "text").write_text("\n".join(lines(400)), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=NUM_PIECES,
        model_type=kind,
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return folder / "tokenizer.model"


def added(content: str, token_id: int, **flags: bool) -> dict[str, Any]:
    """An entry of `added_tokens`."""
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": token_id, "content": content, **plain, **flags}


def tokenizer_json(model: Path, *more: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer.json of a tokenizer.model, with more added tokens."""
    pieces = read_model_pieces(model)
    kinds = (TokenType.UNKNOWN, TokenType.CONTROL)
    controls = [added(pieces.texts[i], i, special=True) for i, kind in enumerate(pieces.types) if kind in kinds]
    parts = tokenizer_parts(pieces)
    parts["model"]["unk_token"] = "<unk>"
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [*controls, *more], **parts}


def make_folder(tiny_folder: Path, out: Path, *more: dict[str, Any], keeps_model: bool = False) -> Path:
    """The tiny model with such a tokenizer, as a tokenizer.json and, if wanted, as a tokenizer.model too."""
    shutil.copytree(tiny_folder, out)
    model = train(out)
    content = tokenizer_json(model, *more)
    (out / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    (out / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    if not keeps_model:
        model.unlink()
    return out
