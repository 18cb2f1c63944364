"""How many bits a model needs for a text: per character and per byte, comparable across vocabularies.

T tokens, V vocabulary.
"""

# ruff: noqa: N806  (names of tensors end with their shape)

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from baihua.core.errors import InputError
from baihua.model.examples import Example, TextSize
from baihua.model.parity import LogProbs


@dataclass(frozen=True, slots=True)
class Bits:
    """Bits of a number of tokens, and the text that these tokens are.

    Tokens that end a turn cost bits, since the model must know when to stop, but count no characters.
    """

    bits: float
    num_chars: int
    num_bytes: int

    @property
    def per_char(self) -> float:
        """Bits per character."""
        return self.bits / self.num_chars

    @property
    def per_byte(self) -> float:
        """Bits per UTF-8 byte."""
        return self.bits / self.num_bytes


@dataclass(frozen=True, slots=True)
class Measured:
    """The answers given their prompts, and everything after each text's first token."""

    answers: Bits
    everything: Bits


def measure(examples: Iterable[Example], log_probs: LogProbs) -> Measured:
    """Score examples, teacher-forced, one after the other."""
    answers = everything = Bits(0.0, 0, 0)
    for example in examples:
        log_probs_TV = log_probs(example.ids_T.tolist())
        next_ids = example.ids_T[1:]
        bits_T = -log_probs_TV[np.arange(len(next_ids)), next_ids].astype(np.float64) / math.log(2)
        answers = _add(answers, float(bits_T[example.is_target_T[1:]].sum()), example.target_text)
        everything = _add(everything, float(bits_T.sum()), example.text)
    if answers.num_chars == 0:
        raise InputError(
            "the answers have no characters, so there is nothing to measure",
            fix="give conversations with answers of the assistant, or raise `max_length`",
        )
    return Measured(answers, everything)


def _add(bits: Bits, more: float, text: TextSize) -> Bits:
    return Bits(bits.bits + more, bits.num_chars + text.num_chars, bits.num_bytes + text.num_bytes)
