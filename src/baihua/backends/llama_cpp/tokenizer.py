"""The tokenizer inside a GGUF file, as llama.cpp itself applies it."""

from collections.abc import Mapping
from pathlib import Path

from baihua.backends.llama_cpp.api import Vocabulary
from baihua.chat.render import Template
from baihua.core.errors import InputError


class GgufTokenizer:
    """A TextTokenizer over a GGUF file; safe to use from many threads."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._vocabulary = Vocabulary(file)
        self._controls = self._vocabulary.controls()

    @property
    def num_tokens(self) -> int:
        """The size of the vocabulary."""
        return self._vocabulary.num_tokens

    @property
    def controls(self) -> Mapping[str, int]:
        """Every control token and its id."""
        return self._controls

    @property
    def bos_id(self) -> int | None:
        """The token that this model wants before every text, where it wants one."""
        return self._vocabulary.bos_id if self._vocabulary.adds_bos else None

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; a control token's name inside it is just letters."""
        return self._vocabulary.encode(text)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for; a character may span several tokens. Controls give none."""
        return self._vocabulary.token_bytes(token_id)

    def end_ids(self) -> list[int]:
        """Tokens at which llama.cpp ends an answer."""
        return self._vocabulary.end_ids()

    def template(self) -> Template:
        """The chat template inside the file; an InputError when it brings none."""
        jinja = self._vocabulary.chat_template
        if jinja is None:
            raise InputError(
                "the model brings no chat template, so it is a base model that continues texts",
                where=str(self.file),
                fix="tune it first, or quantize a model folder that has a chat_template.jinja",
            )
        return Template(
            name=self.file.name,
            jinja=jinja,
            controls=frozenset(self._controls),
            bos_token=self._text(self._vocabulary.bos_id),
            eos_token=self._text(self._vocabulary.eos_id),
        )

    def close(self) -> None:
        """Free the vocabulary."""
        self._vocabulary.close()

    def _text(self, token_id: int | None) -> str:
        return "" if token_id is None else self._vocabulary.text(token_id)
