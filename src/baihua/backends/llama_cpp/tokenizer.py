"""The tokenizer inside a GGUF file, as llama.cpp itself applies it."""

import ctypes
from collections.abc import Mapping
from pathlib import Path

from baihua.backends.llama_cpp.library import load_model, open_library
from baihua.chat.render import Template
from baihua.core.errors import InputError
from baihua.modelfiles.gguf_header import read_model_header


class GgufTokenizer:
    """A TextTokenizer over a GGUF file, opened without its weights; thread-safe."""

    def __init__(self, file: Path) -> None:
        read_model_header(file)
        self.file = file
        self._library = open_library()
        self._model: int | None = load_model(self._library, file, vocab_only=True)
        self._vocab = self._library.llama_model_get_vocab(self._model)
        self.num_tokens: int = self._library.llama_vocab_n_tokens(self._vocab)
        self.controls: Mapping[str, int] = {
            self._name(i): i for i in range(self.num_tokens) if self._library.llama_vocab_is_control(self._vocab, i)
        }
        """Every control token and its id."""

    @property
    def bos_id(self) -> int | None:
        """The token that must begin every text, if this model has one."""
        found = self._library.llama_vocab_bos(self._vocab)
        return found if found >= 0 and self._library.llama_vocab_get_add_bos(self._vocab) else None

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; the name of a control token in it is encoded as ordinary characters."""
        data = text.encode("utf-8")
        # Every token stands for at least one byte; SentencePiece may add one space in front.
        ids = (ctypes.c_int32 * (len(data) + 2))()
        count = self._library.llama_tokenize(self._vocab, data, len(data), ids, len(ids), False, False)
        assert count >= 0, "more tokens than bytes"
        return ids[:count]

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes a token stands for, none for a control token; a character may span several tokens."""
        num_bytes = 64
        while True:
            piece = ctypes.create_string_buffer(num_bytes)
            count = self._library.llama_token_to_piece(self._vocab, token_id, piece, num_bytes, 0, False)
            if count >= 0:
                return piece.raw[:count]
            num_bytes = -count

    def end_ids(self) -> list[int]:
        """The tokens at which llama.cpp ends an answer."""
        return [i for i in range(self.num_tokens) if self._library.llama_vocab_is_eog(self._vocab, i)]

    def template(self) -> Template:
        """The chat template in the file; an InputError when it has none."""
        jinja = self._library.llama_model_chat_template(self._model, None)
        if jinja is None:
            what = "the GGUF file has no chat template: it is a base model, which only continues text"
            fix = "tune it first, or quantize a model folder that has a chat_template.jinja"
            raise InputError(what, where=str(self.file), fix=fix)
        bos, eos = (find(self._vocab) for find in (self._library.llama_vocab_bos, self._library.llama_vocab_eos))
        controls = frozenset(self.controls)
        return Template(self.file.name, jinja.decode("utf-8"), controls, self._name(bos), self._name(eos))

    def close(self) -> None:
        """Free the vocabulary, which cannot be used afterwards."""
        if self._model is not None:
            self._library.llama_model_free(self._model)
        self._model = self._vocab = None

    def _name(self, token_id: int) -> str:
        """A token as it is written in the vocabulary; empty for the -1 of a missing special token."""
        if token_id < 0:
            return ""
        return self._library.llama_vocab_get_text(self._vocab, token_id).decode("utf-8", errors="replace")
