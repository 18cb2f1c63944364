"""The tokenizer of a model folder, without transformers: plain text stays plain, controls go by name."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from baihua.chat.render import Template
from baihua.core.errors import InputError
from baihua.core.tree import is_mapping


class FolderTokenizer:
    """Reads `tokenizer.json` and `tokenizer_config.json` of a model folder; safe to use from many threads."""

    def __init__(self, folder: Path) -> None:
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise InputError("no tokenizer.json in the model folder", where=str(folder), fix="import the model again")
        self.settings = _read_settings(folder)
        self.num_tokens = 0
        self._tokenizer = Tokenizer.from_file(str(file))
        # Without this the Rust tokenizer turns "<|im_end|>" typed by a user into the control token.
        self._tokenizer.encode_special_tokens = True
        self.num_tokens = self._tokenizer.get_vocab_size(with_added_tokens=True)
        added = self._tokenizer.get_added_tokens_decoder()
        self._controls = {token.content: token_id for token_id, token in added.items() if token.special}
        content = json.loads(file.read_text(encoding="utf-8"))
        self._is_byte_level = _uses_byte_level(content)
        self._begins_with_token = begins_with_token(content, self.settings)

    @property
    def controls(self) -> Mapping[str, int]:
        """Every control token and its id."""
        return self._controls

    @property
    def bos_id(self) -> int | None:
        """The token that this model wants before every text, where it wants one."""
        return self._controls.get(self.bos_token) if self._begins_with_token else None

    @property
    def bos_token(self) -> str:
        """The text of the begin-of-sequence token, or nothing."""
        return _token_text(self.settings.get("bos_token"))

    @property
    def eos_token(self) -> str:
        """The text of the end-of-sequence token, or nothing."""
        return _token_text(self.settings.get("eos_token"))

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; a control token's name inside it is just letters."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """The text of ids, controls left out; broken characters become U+FFFD."""
        return b"".join(self.token_bytes(token_id) for token_id in ids).decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for; a character may span several tokens. Controls give none."""
        text = self._tokenizer.id_to_token(token_id)
        if text is None or text in self._controls:
            return b""
        if self._is_byte_level:
            return bytes(BYTE_OF[char] for char in text) if set(text) <= BYTE_OF.keys() else text.encode()
        if len(text) == 6 and text.startswith("<0x"):
            return bytes([int(text[3:5], 16)])
        return text.replace("\u2581", " ").encode()


def adds_bos(folder: Path) -> bool:
    """Whether the tokenizer of a model folder puts its begin-of-sequence token before every text."""
    file = folder / "tokenizer.json"
    return begins_with_token(json.loads(file.read_text("utf-8")) if file.is_file() else {}, _read_settings(folder))


def begins_with_token(tokenizer_json: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether texts begin with a token: as the settings say, else as tokenizer.json does it, else as SentencePiece.

    transformers 5 leaves `add_bos_token` out of the settings that it writes.
    """
    said = settings.get("add_bos_token")
    if said is not None or not tokenizer_json:
        return said is not False
    step: Mapping[str, Any] = tokenizer_json.get("post_processor") or {}
    templates = [one for one in step.get("processors", [step]) if one.get("type") == "TemplateProcessing"]
    return any("SpecialToken" in one["single"][0] for one in templates)


def load_template(name: str, folder: Path, tokenizer: FolderTokenizer, jinja: str | None) -> Template:
    """The template of a model folder: its own when `jinja` is None, else the given Jinja text."""
    if jinja is None:
        file = folder / "chat_template.jinja"
        if not file.is_file():
            raise InputError(
                "the model brings no chat template of its own",
                where=str(folder),
                fix="name one in the recipe: `template: chatml` or `template: alpaca`",
            )
        jinja = file.read_text(encoding="utf-8")
    return Template(
        name=name,
        jinja=jinja,
        controls=frozenset(tokenizer.controls),
        bos_token=tokenizer.bos_token,
        eos_token=tokenizer.eos_token,
    )


def _read_settings(folder: Path) -> dict[str, object]:
    file = folder / "tokenizer_config.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _token_text(value: object) -> str:
    if is_mapping(value):
        return str(value.get("content", ""))
    return value if isinstance(value, str) else ""


def _uses_byte_level(tokenizer_json: dict[str, object]) -> bool:
    return '"ByteLevel"' in json.dumps([tokenizer_json.get("pre_tokenizer"), tokenizer_json.get("decoder")])


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's byte-to-character table, reversed: printable bytes are themselves, the rest start at U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(printable)]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(0x100 + i): byte for i, byte in enumerate(hidden)}


BYTE_OF = _byte_alphabet()
