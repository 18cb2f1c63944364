"""The tiny model with each of our templates, and the control tokens that it needs."""

import json
import shutil
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from baihua.chat.template import TEMPLATES
from baihua.core import kinds
from baihua.model.load import load_model, save_model


def make_model(tiny_folder: Path, folder: Path, name: str) -> Path:
    """Save the tiny model with one template, and with its control tokens in the vocabulary."""
    kind = kinds.find(TEMPLATES, name)
    tokenizer = Tokenizer.from_file(str(tiny_folder / "tokenizer.json"))
    tokenizer.add_special_tokens(list(kind.CONTROLS))
    source = folder / "tokenizer"
    source.mkdir()
    tokenizer.save(str(source / "tokenizer.json"))
    shutil.copy(tiny_folder / "tokenizer_config.json", source)
    set_tokenizer(source, bos_token=kind.CONTROLS[0], eos_token=kind.CONTROLS[-1])
    model = load_model(tiny_folder)
    model.resize_token_embeddings(tokenizer.get_vocab_size())
    save_model(model, folder / "model", tokenizer_from=source, jinja=kind.JINJA)
    return folder / "model"


def set_tokenizer(folder: Path, **changes: Any) -> None:
    """Change settings of a folder's tokenizer."""
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")
