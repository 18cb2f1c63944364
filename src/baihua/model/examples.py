"""A conversation becomes an example: token ids, which of them are targets, and how much text that is.

T tokens.
"""

# ruff: noqa: N806, N815  (names of tensors end with their shape)

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from baihua.chat.render import Template, encode, render
from baihua.chat.types import Message, TextTokenizer


@dataclass(frozen=True, slots=True)
class TextSize:
    """How much text a range of tokens stands for; control tokens, such as the end of a turn, count nothing."""

    num_chars: int
    num_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One tokenised conversation. The first token is never a target: nothing comes before it."""

    row_id: str
    ids_T: np.ndarray
    """Token ids, int32."""
    is_target_T: np.ndarray
    """Whether the model is trained to produce that token, bool."""
    text: TextSize
    target_text: TextSize
    is_cut: bool = False


class Encoder:
    """Renders and tokenises conversations with one tokenizer and one template."""

    def __init__(self, tokenizer: TextTokenizer, template: Template) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self._control_ids = np.array(sorted(tokenizer.controls.values()), dtype=np.int32)
        self._size_of_token = functools.cache(self._measure_token)

    def encode(self, row_id: str, messages: Sequence[Message]) -> Example:
        """The whole conversation as an example."""
        spans = render(messages, self.template)
        tokens = encode(spans, self.tokenizer)
        is_target_T = np.array(tokens.is_trained, dtype=bool)
        is_target_T[:1] = False
        plain = [span for span in spans if not span.is_control]
        return Example(
            row_id,
            np.array(tokens.ids, dtype=np.int32),
            is_target_T,
            _size_of_text([span.text for span in plain]),
            _size_of_text([span.text for span in plain if span.is_trained]),
        )

    def cut(self, example: Example, max_length: int) -> Example:
        """At most `max_length` tokens: cut after the last whole answer that fits, else inside the first one.

        A cut answer has no end-of-turn token, so nothing here teaches the model to stop early. The result
        may have no target: then the prompt alone is too long.
        """
        if len(example.ids_T) <= max_length:
            return example
        is_end_T = example.is_target_T & np.isin(example.ids_T, self._control_ids)
        ends = np.flatnonzero(is_end_T[:max_length])
        length = int(ends[-1]) + 1 if len(ends) else max_length
        ids_T, is_target_T = example.ids_T[:length].copy(), example.is_target_T[:length].copy()
        sizes = (self._measure(ids_T), self._measure(ids_T[is_target_T]))
        return Example(example.row_id, ids_T, is_target_T, *sizes, is_cut=True)

    def _measure(self, ids: np.ndarray) -> TextSize:
        sizes = [self._size_of_token(token_id) for token_id in ids.tolist()]
        return TextSize(sum(size.num_chars for size in sizes), sum(size.num_bytes for size in sizes))

    def _measure_token(self, token_id: int) -> TextSize:
        data = self.tokenizer.token_bytes(token_id)
        # Bytes 10xxxxxx continue a character; a character counts where it starts.
        return TextSize(sum(byte & 0xC0 != 0x80 for byte in data), len(data))


def _size_of_text(texts: list[str]) -> TextSize:
    return TextSize(sum(map(len, texts)), sum(len(text.encode()) for text in texts))
