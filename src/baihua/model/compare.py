"""The distance between two models' predictions of the same tokens, and the bits that a model needs for a text.

T tokens, V vocabulary. A text of T tokens has T - 1 predicted tokens: its first is given.
"""

# ruff: noqa: N803, N806  (names of tensors end with their shape)

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from baihua.chat.template import OWN, open_template
from baihua.chat.types import Message
from baihua.core.errors import InputError, RunError
from baihua.model.examples import Encoder, Example, TextSize

LogProbs = Callable[[Sequence[int]], np.ndarray]
"""Token ids to natural-log probabilities_TV, float32: row t is the distribution of the token after ids[: t + 1]."""

MAX_MEAN_KL = 1e-3
MIN_SAME_TOP_SHARE = 0.99
# A copy of a whole text's probabilities may not fit into memory, so rows are compared in parts.
NUM_ROWS = 64
MAX_TOKENS = 128
BUILT_IN = (
    ("请介绍一下你自己。", "你好！我是一个中文助手，可以回答问题、写文章和聊天。"),
    ("中国的首都是哪里？", "中国的首都是北京，它也是全国的政治和文化中心。"),
    ("把这句话翻译成英文：今天天气很好。", "The weather is very nice today."),
    ("Write a line of Python that adds two numbers.", "print(1 + 2)  # 打印 3"),
)


@dataclass(frozen=True, slots=True)
class Parity:
    """The distance of a model from another, over all positions of all texts."""

    mean_kl: float
    """Nats per position, first model to second."""
    same_top_share: float
    """Share of positions with the same most likely token, 0 to 1."""
    max_abs_logit_difference: float
    """Largest difference of a normalised logit (a log-probability)."""
    num_positions: int


@dataclass(frozen=True, slots=True)
class Bits:
    """Bits of a number of tokens, and the size of the text that these tokens encode.

    Tokens that end a turn cost bits, since the model must know when to stop, but count no characters.
    """

    bits: float = 0.0
    num_chars: int = 0
    num_bytes: int = 0

    @property
    def per_char(self) -> float:
        """Bits per character."""
        return self.bits / self.num_chars

    @property
    def per_byte(self) -> float:
        """Bits per UTF-8 byte."""
        return self.bits / self.num_bytes


@dataclass(frozen=True, slots=True)
class ExampleBits:
    """Bits of the answers given their prompts, and of everything after each text's first token."""

    answers: Bits
    everything: Bits


def encode_texts(folder: Path, conversations: Sequence[Sequence[Message]], *, template: str = OWN) -> list[list[int]]:
    """Token ids of each conversation, or of the built-in ones if there are none, truncated to 128 tokens."""
    encoder = Encoder(*open_template(template, folder))
    built_in = [(Message("user", question), Message("assistant", answer)) for question, answer in BUILT_IN]
    return [encoder.encode("", messages).ids_T[:MAX_TOKENS].tolist() for messages in conversations or built_in]


def kl_divergence(first_TV: np.ndarray, second_TV: np.ndarray) -> np.ndarray:
    """KL divergence_T of the first distribution to the second, in nats, given log-probabilities.

    A first one in float16, where each value is off by up to 1 in 2,000, is normalized again, so that losses and gains
    cancel and the mean moves by less than 1e-5: on six texts of 50 to 95 tokens with SmolLM2 by 1e-6 at q8_0 (KL 0.008)
    and 7e-6 at q2_k (KL 0.7).
    """
    found = [np.zeros(0)]
    for part in _parts(len(first_TV)):
        p_TV, q_TV = first_TV[part].astype(np.float32), second_TV[part]
        if first_TV.dtype == np.float16:
            p_TV -= np.log(np.exp(p_TV).sum(axis=1, keepdims=True, dtype=np.float64)).astype(np.float32)
        found.append((np.exp(p_TV) * (p_TV - q_TV)).sum(axis=1, dtype=np.float64))
    return np.concatenate(found)


def compare_pairs(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Parity:
    """Compare the log-probabilities_TV that two models gave for the same texts."""
    kl, num_same, num_positions, largest = 0.0, 0, 0, 0.0
    for a_TV, b_TV in pairs:
        kl += float(kl_divergence(a_TV, b_TV).sum())
        num_same += int((a_TV.argmax(-1) == b_TV.argmax(-1)).sum())
        num_positions += len(a_TV)
        largest = max(largest, *(float(np.abs(a_TV[part] - b_TV[part]).max()) for part in _parts(len(a_TV))))
    if num_positions == 0:
        raise RunError("two models cannot be compared without a text", fix="give `data` with at least one row")
    return Parity(kl / num_positions, num_same / num_positions, largest, num_positions)


def check_parity(parity: Parity, *, what: str, is_rounded: bool = False, max_mean_kl: float = MAX_MEAN_KL) -> None:
    """Refuse a model that differs from its source, or figures that are NaN.

    Where weights were rounded to 16 bits, near ties fall the other way (1 % of the tokens of SmolLM2 in bfloat16, 6 %
    of those of a random 7B, whose predictions are nearly even; docs/log.md, 2026-11-26): there only the divergence
    counts.
    """
    if parity.mean_kl < max_mean_kl and (is_rounded or parity.same_top_share >= MIN_SAME_TOP_SHARE):
        return
    found = f"mean KL {parity.mean_kl:.2e} (must be below {max_mean_kl:.0e})"
    least = "" if is_rounded else f" (at least {MIN_SAME_TOP_SHARE:.0%})"
    same = f"same most likely token at {parity.same_top_share:.2%} of {parity.num_positions:,} positions{least}"
    fix = "do not use this result; run the stage again, and report the problem if it persists"
    raise RunError(f"{what}: {found}, {same}", fix=fix)


def bits_of(ids_T: np.ndarray, log_probs_TV: np.ndarray) -> np.ndarray:
    """Bits of every token after the first, float64, given the log-probabilities of the positions before them."""
    return -log_probs_TV[np.arange(len(ids_T) - 1), ids_T[1:]].astype(np.float64) / math.log(2)


def measure_bits(examples: Iterable[Example], log_probs: LogProbs) -> ExampleBits:
    """Score examples one by one, teacher-forced."""
    answers = everything = Bits()
    for example in examples:
        bits_T = bits_of(example.ids_T, log_probs(example.ids_T.tolist()))
        answers = _add(answers, float(bits_T[example.is_target_T[1:]].sum()), example.target_text)
        everything = _add(everything, float(bits_T.sum()), example.text)
    if answers.num_chars == 0:
        what = "the answers have no characters, so there is nothing to measure"
        raise InputError(what, fix="give conversations with answers of the assistant, or raise `max_length`")
    return ExampleBits(answers, everything)


def _add(bits: Bits, more: float, text: TextSize) -> Bits:
    return Bits(bits.bits + more, bits.num_chars + text.num_chars, bits.num_bytes + text.num_bytes)


def _parts(num_rows: int) -> Iterator[slice]:
    return (slice(start, start + NUM_ROWS) for start in range(0, num_rows, NUM_ROWS))
