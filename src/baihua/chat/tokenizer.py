"""The tokenizer of a model folder, without transformers; control tokens are never read from plain text."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from baihua.core.errors import InputError
from baihua.core.files import is_mapping

# GPT-2's byte-to-character table, reversed: printable bytes are themselves, the others start at U+0100.
PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
HIDDEN = sorted({*range(256)} - {*PRINTABLE})
BYTE_OF = {chr(byte): byte for byte in PRINTABLE} | {chr(0x100 + i): byte for i, byte in enumerate(HIDDEN)}


class FolderTokenizer:
    """A TextTokenizer over `tokenizer.json` and `tokenizer_config.json` of a model folder; thread-safe."""

    def __init__(self, folder: Path) -> None:
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise InputError("no tokenizer.json in the model folder", where=str(folder), fix="import the model again")
        self._tokenizer = Tokenizer.from_file(str(file))
        # Without this the Rust tokenizer turns "<|im_end|>" typed by a user into the control token.
        self._tokenizer.encode_special_tokens = True
        self.num_tokens = self._tokenizer.get_vocab_size(with_added_tokens=True)
        added = self._tokenizer.get_added_tokens_decoder()
        self.controls: Mapping[str, int] = {token.content: i for i, token in added.items() if token.special}
        """Every control token and its id."""
        content, settings = _read_json(file), _read_json(folder / "tokenizer_config.json")
        self.bos_token, self.eos_token = (_token_text(settings.get(name)) for name in ("bos_token", "eos_token"))
        self._begins_with_token = begins_with_token(content, settings)
        self._is_byte_level = '"ByteLevel"' in json.dumps([content.get("pre_tokenizer"), content.get("decoder")])

    @property
    def bos_id(self) -> int | None:
        """The token that must begin every text, if this model has one."""
        return self.controls.get(self.bos_token) if self._begins_with_token else None

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; the name of a control token in it is encoded as ordinary characters."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """The text of ids without control tokens; broken characters become U+FFFD."""
        return b"".join(self.token_bytes(token_id) for token_id in ids).decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes a token stands for, none for a control token; a character may span several tokens."""
        text = self._tokenizer.id_to_token(token_id)
        if text is None or text in self.controls:
            return b""
        if self._is_byte_level:
            return bytes(BYTE_OF[char] for char in text) if set(text) <= BYTE_OF.keys() else text.encode()
        if len(text) == 6 and text.startswith("<0x"):
            return bytes([int(text[3:5], 16)])
        return text.replace("\u2581", " ").encode()


def adds_bos(folder: Path) -> bool:
    """Whether the tokenizer of a model folder puts its begin-of-sequence token before every text."""
    return begins_with_token(_read_json(folder / "tokenizer.json"), _read_json(folder / "tokenizer_config.json"))


def begins_with_token(tokenizer_json: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether texts begin with a token: by `add_bos_token`, else by tokenizer.json, else as in SentencePiece.

    transformers 5 leaves `add_bos_token` out of the settings that it writes.
    """
    setting = settings.get("add_bos_token")
    if setting is not None or not tokenizer_json:
        return setting is not False
    step: Mapping[str, Any] = tokenizer_json.get("post_processor") or {}
    templates = [one for one in step.get("processors", [step]) if one.get("type") == "TemplateProcessing"]
    return any("SpecialToken" in one["single"][0] for one in templates)


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _token_text(value: object) -> str:
    if is_mapping(value):
        return str(value.get("content", ""))
    return value if isinstance(value, str) else ""
