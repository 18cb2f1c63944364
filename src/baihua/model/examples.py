"""Examples: conversations and documents as token ids, with the mask of targets and the size of the text.

T tokens.
"""

# ruff: noqa: N803, N806, N815  (names of tensors end with their shape)

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from baihua.chat.render import Template, encode, render
from baihua.chat.splitting import fitting_runs, split_turns
from baihua.chat.types import Message, Span, TextTokenizer

# More characters than any usual text has per token, so that a whole book is not tokenized for its first page.
MAX_CHARS_PER_TOKEN = 16
TrainOn = Literal["answers", "last_answer", "everything"]


@dataclass(frozen=True, slots=True)
class TextSize:
    """The size of the text that some tokens encode; control tokens, such as the end of a turn, count as nothing."""

    num_chars: int
    num_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One tokenized conversation or document. The first token is never a target, since no token precedes it."""

    row_id: str
    ids_T: np.ndarray
    """Token ids, int32."""
    is_target_T: np.ndarray
    """Whether the model is trained to produce that token, bool."""
    text: TextSize
    target_text: TextSize
    is_cut: bool = False


class Encoder:
    """Renders and tokenizes conversations with one tokenizer and one template.

    `train_on` selects the targets: the tokens of all answers, of the last answer, or all tokens.
    """

    def __init__(self, tokenizer: TextTokenizer, template: Template, train_on: TrainOn = "answers") -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.train_on: TrainOn = train_on
        self._control_ids = np.array(sorted(tokenizer.controls.values()), dtype=np.int32)

    def encode(self, row_id: str, messages: Sequence[Message]) -> Example:
        """The whole conversation as an example."""
        spans = _choose_targets(render(messages, self.template), self.train_on)
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

    def split(self, row_id: str, messages: Sequence[Message], max_length: int) -> tuple[list[Example], int]:
        """Examples of at most `max_length` tokens, split between turns, and the number of turns left out.

        Each example begins with the conversation's system message, if it has one, and holds as many turns (a question
        and its answer) as fit. A turn that is too long by itself is left out, never truncated.
        """
        whole = self.encode(row_id, messages)
        if len(whole.ids_T) <= max_length:
            return [whole], 0
        system, turns = split_turns(messages)
        # Messages after the last answer have no targets.
        turns = [turn for turn in turns if turn[-1].role == "assistant"]

        @functools.cache
        def encode(start: int, end: int) -> Example:
            return self.encode(row_id, [*system, *itertools.chain(*turns[start:end])])

        runs = fitting_runs(len(turns), lambda start, end: len(encode(start, end).ids_T) <= max_length)
        pieces = [encode(*run) for run in runs]
        fitting = [piece for piece in pieces if len(piece.ids_T) <= max_length]
        return fitting, len(pieces) - len(fitting)

    def cut(self, example: Example, max_length: int) -> Example:
        """At most `max_length` tokens: truncated after the last whole answer that fits, else inside the first one.

        A truncated answer has no end-of-turn token, so that no model learns to stop early. The result may have no
        target: then the prompt alone is too long.
        """
        if len(example.ids_T) <= max_length:
            return example
        is_end_T = example.is_target_T & np.isin(example.ids_T, self._control_ids)
        length = max(np.flatnonzero(is_end_T[:max_length]) + 1, default=max_length)
        ids_T, is_target_T = example.ids_T[:length].copy(), example.is_target_T[:length].copy()
        sizes = (_size_of_ids(self.tokenizer, ids) for ids in (ids_T, ids_T[is_target_T]))
        return Example(example.row_id, ids_T, is_target_T, *sizes, is_cut=True)


def encode_document(tokenizer: TextTokenizer, row_id: str, text: str, max_length: int) -> Example:
    """The first `max_length` tokens of a plain text as an example; all but the first token are targets."""
    first = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    ids = first + tokenizer.encode(text[: max_length * MAX_CHARS_PER_TOKEN])
    ids_T = np.array(ids[:max_length], dtype=np.int32)
    size = _size_of_ids(tokenizer, ids_T[1:])
    is_cut = len(ids) > max_length or len(text) > max_length * MAX_CHARS_PER_TOKEN
    return Example(row_id, ids_T, np.arange(len(ids_T)) > 0, size, size, is_cut)


def _size_of_ids(tokenizer: TextTokenizer, ids_T: np.ndarray) -> TextSize:
    data = b"".join(map(tokenizer.token_bytes, ids_T.tolist()))
    # Bytes 10xxxxxx continue a character; a character counts where it starts.
    return TextSize(sum(byte & 0xC0 != 0x80 for byte in data), len(data))


def _size_of_text(texts: list[str]) -> TextSize:
    return TextSize(sum(map(len, texts)), sum(len(text.encode()) for text in texts))


def _choose_targets(spans: list[Span], train_on: TrainOn) -> list[Span]:
    """The renderer marks every answer; keep those marks, or only the last answer's, or mark all spans."""
    if train_on == "answers":
        return spans
    if train_on == "everything":
        return [replace(span, is_trained=True) for span in spans]
    trained = [number for number, span in enumerate(spans) if span.is_trained]
    first = next((n for n in reversed(trained) if n - 1 not in trained), 0)
    return [replace(span, is_trained=span.is_trained and number >= first) for number, span in enumerate(spans)]
