"""What the estimate counts is what autograd keeps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from few_steps import CPU, config_of, open_method
from transformers import LlamaConfig, LlamaForCausalLM

from baihua.model.examples import Example, TextSize
from baihua.modelfiles.shape import Shape, shape_of
from baihua.train.examples.batches import PackedBatch, collate
from baihua.train.layers.attention import use_document_attention
from baihua.train.layers.loss import TargetLoss, causal_model
from baihua.train.plan.memory import Trained, Workload, kept_per_token

# No width equals the number of tokens, so what is kept for each token can be told from copies of weights.
NUM_TOKENS, VOCABULARY = 512, 520
CASES = [
    ("lora", "bfloat16", {}),
    ("lora", "float32", {}),
    ("lora", "bfloat16", {"dropout": 0.1}),
    ("lora", "bfloat16", {"target_modules": ("q_proj", "v_proj")}),
    ("int8", "bfloat16", {}),
    ("qlora", "bfloat16", {"target_modules": ("o_proj", "down_proj")}),
    ("embeddings", "bfloat16", {"first_new_token": VOCABULARY - 8}),
    ("full", "bfloat16", {}),
    ("full", "float32", {}),
    ("freeze", "bfloat16", {"num_layers": 5}),
    ("freeze", "float32", {"num_layers": 5}),
]


def make(folder: Path, num_layers: int) -> Path:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=448,
        num_hidden_layers=num_layers,
        num_attention_heads=6,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def kept_bytes(model: torch.nn.Module, precision: Any, batch: PackedBatch) -> tuple[int, int]:
    """Bytes that autograd keeps in the layers of a model, each storage once, without the weights; and the trained."""
    causal = causal_model(model)
    use_document_attention(causal)
    held = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    loss_of = TargetLoss(model, precision=precision).train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss_of(batch)
    found = sum(
        kept[place].untyped_storage().nbytes() for place in kept.keys() - held if NUM_TOKENS in kept[place].shape
    )
    return found, sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def make_batch() -> PackedBatch:
    rng = np.random.default_rng(0)
    is_target = np.arange(128) >= 64
    size = TextSize(1, 1)
    return collate(
        [Example(str(i), rng.integers(3, VOCABULARY, 128).astype(np.int32), is_target, size, size) for i in range(4)]
    )


@pytest.mark.parametrize(("method", "precision", "settings"), CASES)
def test_what_a_layer_keeps_is_what_autograd_keeps(method: str, precision: Any, settings: Any, tmp_path: Path) -> None:
    # The difference of two depths: whatever a model keeps once is not in it.
    found, wanted = [], []
    for num_layers in (5, 9):
        folder = make(tmp_path / str(num_layers), num_layers)
        if method == "freeze":
            settings = settings | {"num_layers": num_layers}
        config = config_of(method, **settings)
        model = open_method(method).prepare(open_method(method).load(folder, precision=precision, device=CPU), config)
        num_kept, num_trained = kept_bytes(model, precision, make_batch())
        work = make_workload(open_method(method).describe(shape_of(folder), config), shape_of(folder), precision)
        assert num_trained == pytest.approx(work.trained.num_weights, rel=0.02)
        found.append(num_kept)
        wanted.append(kept_per_token(work))
    assert wanted[0] == wanted[1]
    assert (found[1] - found[0]) / 4 / NUM_TOKENS == pytest.approx(wanted[0], rel=0.02)


def make_workload(trained: Trained, shape: Shape, precision: Any) -> Workload:
    return Workload(
        shape=shape,
        trained=trained,
        num_tokens_per_batch=NUM_TOKENS,
        mean_length=128,
        target_share=0.5,
        precision=precision,
        device="cpu",
    )
