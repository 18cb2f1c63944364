"""Do two models say the same? Teacher-forced, on the same token ids, position by position.

T tokens, V vocabulary.
"""

# ruff: noqa: N806  (names of tensors end with their shape)

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from baihua.core.errors import RunError

LogProbs = Callable[[Sequence[int]], np.ndarray]
"""Token ids to natural-log probabilities_TV, float32: row t is the distribution of the token after ids[: t + 1]."""

MAX_MEAN_KL = 1e-3
MIN_SAME_TOP_SHARE = 0.99


@dataclass(frozen=True, slots=True)
class Parity:
    """How far a model is from another, over all positions of all texts."""

    mean_kl: float
    """Nats per position, first model to second."""
    same_top_share: float
    """Share of positions with the same most likely token, 0 to 1."""
    max_abs_logit_difference: float
    """Largest difference of a normalised logit (a log-probability)."""
    num_positions: int


def log_probs_of(model: nn.Module) -> LogProbs:
    """The distributions of a causal model in memory."""

    @torch.inference_mode()
    def log_probs(ids: Sequence[int]) -> np.ndarray:
        device = next(model.parameters()).device
        logits_TV = model(input_ids=torch.tensor([list(ids)], device=device), use_cache=False).logits[0]
        return logits_TV.float().log_softmax(-1).cpu().numpy()

    model.eval()
    return log_probs


def compare(first: LogProbs, second: LogProbs, texts: Iterable[Sequence[int]]) -> Parity:
    """Compare two models on token ids."""
    return compare_pairs((first(ids), second(ids)) for ids in texts)


def compare_pairs(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Parity:
    """Compare the log probabilities_TV that two models gave for the same texts."""
    kl, num_same, num_positions, largest = 0.0, 0, 0, 0.0
    for a_TV, b_TV in pairs:
        kl += float((np.exp(a_TV, dtype=np.float64) * (a_TV - b_TV)).sum())
        num_same += int((a_TV.argmax(-1) == b_TV.argmax(-1)).sum())
        num_positions += len(a_TV)
        largest = max(largest, float(np.abs(a_TV - b_TV).max()))
    if num_positions == 0:
        raise RunError("two models cannot be compared without a text", fix="give `data` with at least one row")
    return Parity(kl / num_positions, num_same / num_positions, largest, num_positions)


def check_parity(parity: Parity, *, what: str, is_rounded: bool = False) -> None:
    """Refuse a result that differs from what it was made of; figures that are not numbers are refused too.

    Where weights were rounded to 16 bits, close calls fall the other way (1 % of the tokens of SmolLM2 in bfloat16,
    6 % of those of a random 7B, which is sure of nothing; docs/log.md, 2026-11-26): there the divergence alone counts.
    """
    if parity.mean_kl < MAX_MEAN_KL and (is_rounded or parity.same_top_share >= MIN_SAME_TOP_SHARE):
        return
    raise RunError(
        f"{what}: mean KL {parity.mean_kl:.2e} (must be below {MAX_MEAN_KL:.0e}), same most likely token at "
        f"{parity.same_top_share:.2%} of {parity.num_positions:,} positions"
        + ("" if is_rounded else f" (at least {MIN_SAME_TOP_SHARE:.0%})"),
        fix="do not use this result; run the stage again, and report it if it stays so",
    )
