"""Special tokens of a model folder or GGUF file: those that begin, end and pad a text, and those that end an answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baihua.modelfiles.folder import TOKENIZER_SETTINGS, read_json
from baihua.modelfiles.gguf_header import GgufHeader, read_header

GGUF_NAMES = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
"""Our names of the special tokens, and those in the keys of a GGUF file."""


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Ids of special tokens; None where the model has no such token."""

    bos: int | None
    eos: int | None
    pad: int | None
    unk: int | None
    ends: tuple[int, ...]
    """Tokens that end an answer: the end of a text, then others such as the end of a turn."""

    @property
    def by_name(self) -> dict[str, int]:
        """The ids that exist, by `bos`, `eos`, `pad` and `unk`."""
        ids = {"bos": self.bos, "eos": self.eos, "pad": self.pad, "unk": self.unk}
        return {name: token_id for name, token_id in ids.items() if token_id is not None}


def read_special_tokens(folder: Path, ids: Mapping[str, int] | None = None) -> SpecialTokens:
    """The special tokens of a model folder; `ids` gives the id of each token, by default those in tokenizer.json.

    tokenizer_config.json names them, else config.json has their ids. Answers end with the end of a text and with what
    generation_config.json and config.json list.
    """
    settings, config = read_json(folder / TOKENIZER_SETTINGS), read_json(folder / "config.json")
    ids = _added_ids(folder) if ids is None else ids
    found: dict[str, int | None] = {}
    for name in GGUF_NAMES:
        configured = next(iter(_as_list(config.get(f"{name}_token_id"))), None)
        found[name] = ids.get(token_text(settings.get(f"{name}_token")), configured)
    generation = read_json(folder / "generation_config.json")
    ends = [found["eos"], *_as_list(generation.get("eos_token_id")), *_as_list(config.get("eos_token_id"))]
    return SpecialTokens(**found, ends=tuple(dict.fromkeys(end for end in ends if end is not None)))


def special_tokens_of(header: GgufHeader) -> SpecialTokens:
    """The special tokens that a GGUF file names; llama.cpp also knows some by their text."""
    ids = {name: _id_in(header, theirs) for name, theirs in GGUF_NAMES.items()}
    ends = [ids["eos"], _id_in(header, "eot"), _id_in(header, "eom")]
    return SpecialTokens(**ids, ends=tuple(dict.fromkeys(end for end in ends if end is not None)))


def end_texts(model: Path) -> list[str]:
    """Texts of the tokens that end an answer of a model folder or GGUF file."""
    if model.is_file():
        header = read_header(model)
        tokens = header.values.get("tokenizer.ggml.tokens")
        texts = dict(enumerate(map(str, tokens))) if isinstance(tokens, list) else {}
        return [texts[end] for end in special_tokens_of(header).ends if end in texts]
    ids = _added_ids(model)
    texts = {token_id: text for text, token_id in ids.items()}
    # Without a tokenizer.json only the settings name the end of a text.
    eos = token_text(read_json(model / TOKENIZER_SETTINGS).get("eos_token"))
    found = [eos, *(texts.get(end, "") for end in read_special_tokens(model, ids).ends)]
    return [text for text in dict.fromkeys(found) if text]


def token_text(token: Any) -> str:
    """The text of a token in tokenizer_config.json, which is a string or an object; empty where there is none."""
    return token.get("content", "") if isinstance(token, dict) else token or ""


def _added_ids(folder: Path) -> dict[str, int]:
    return {token["content"]: token["id"] for token in read_json(folder / "tokenizer.json").get("added_tokens", [])}


def _id_in(header: GgufHeader, name: str) -> int | None:
    found, tokens = header.values.get(f"tokenizer.ggml.{name}_token_id"), header.values.get("tokenizer.ggml.tokens")
    # Some tools write 2^32 - 1 for a token that does not exist.
    return found if isinstance(found, int) and isinstance(tokens, list) and found < len(tokens) else None


def _as_list(value: int | list[int] | None) -> list[int]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
