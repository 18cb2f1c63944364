"""Models compared and merged in the plainest way, as a whole in memory: what the product's streamed ways must equal."""

# ruff: noqa: N806  (names of tensors end with their shape: T tokens, V vocabulary)

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import peft
import torch
from torch import nn
from transformers import PreTrainedModel

from baihua.model.adapter import check_order
from baihua.model.compare import LogProbs, Parity, compare_pairs
from baihua.model.load import load_model
from baihua.model.merge import attach


def log_probs_of(model: nn.Module) -> LogProbs:
    """The log-probabilities of a causal model in memory."""

    @torch.inference_mode()
    def log_probs(ids: Sequence[int]) -> np.ndarray:
        logits_TV = model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]
        return logits_TV.float().log_softmax(-1).numpy()

    model.eval()
    return log_probs


def compare(first: LogProbs, second: LogProbs, texts: Iterable[Sequence[int]]) -> Parity:
    """The distance of two models on token ids."""
    return compare_pairs((first(ids), second(ids)) for ids in texts)


def load_adapted(base: Path, adapter: Path) -> peft.PeftModel:
    """Base and adapter together in float32, not merged."""
    check_order(base, {"adapter": adapter})
    return attach(load_model(base), adapter)


def merge(base: Path, adapter: Path) -> PreTrainedModel:
    """The base with the adapter merged by PEFT, in float32."""
    merged = load_adapted(base, adapter).merge_and_unload(safe_merge=True)
    assert isinstance(merged, PreTrainedModel)
    return merged
