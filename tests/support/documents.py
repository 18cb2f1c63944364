"""Documents of random tokens for tests of packing, and what plain transformers makes of each of them alone.

T tokens, V vocabulary.
"""

# ruff: noqa: N806  (names of tensors end with their shape)

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from baihua.model.examples import Example, TextSize

NUM_TOKENS = 128


def make_document(length: int, *, seed: int, target_share: float = 0.5, row_id: str = "x") -> Example:
    """A document of random tokens, of which about that share are targets; every token counts as a character."""
    rng = np.random.default_rng(seed)
    is_target_T = rng.random(length) < target_share
    is_target_T[:1] = False
    ids_T = rng.integers(0, NUM_TOKENS, length, dtype=np.int32)
    num_targets = int(is_target_T.sum())
    return Example(row_id, ids_T, is_target_T, TextSize(length, length), TextSize(num_targets, num_targets))


def make_documents(lengths: Sequence[int], *, seed: int = 0, target_share: float = 0.5) -> list[Example]:
    """One document for each length, with ids that say which."""
    return [
        make_document(length, seed=seed + number, target_share=target_share, row_id=f"row-{number}")
        for number, length in enumerate(lengths)
    ]


def make_model(family: str = "llama", **settings: Any) -> nn.Module:
    """A two-layer random model of a family, with two key heads for four query heads."""
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {
        "vocab_size": NUM_TOKENS,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "tie_word_embeddings": False,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model(family, **(fields | settings))
        return AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)


def loss_one_by_one(model: nn.Module, documents: Sequence[Example]) -> torch.Tensor:
    """The oracle: each document alone through plain transformers, all its logits, torch's own cross entropy."""
    nats = torch.zeros(())
    for document in documents:
        ids_T = torch.tensor(document.ids_T).long()
        logits_TV = model(input_ids=ids_T[None], use_cache=False).logits[0]
        labels_T = ids_T.where(torch.tensor(document.is_target_T), -100)
        nats = nats + cross_entropy(logits_TV[:-1].float(), labels_T[1:], ignore_index=-100, reduction="sum")
    return nats


def gradients(loss: torch.Tensor, model: nn.Module) -> dict[str, torch.Tensor]:
    """Gradients of what is trainable, by name."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return dict(zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True))


def distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """How far apart two tensors are, as a share of the wanted one's length; what is zero by nature counts as 0.01."""
    found, wanted = found.detach().double(), wanted.detach().double()
    return float((found - wanted).norm() / wanted.norm().clamp(min=1e-2))
