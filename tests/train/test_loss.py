"""The loss on slices of the targets against torch's own on all logits: values and every gradient.

N targets, D width.
"""

# ruff: noqa: N806  (names of tensors end with their shape)

import copy
from pathlib import Path

import few_steps
import pytest
import torch
from conversations import encode_rows, make_rows
from documents import distance, gradients, loss_one_by_one, make_documents, make_model
from torch import nn
from torch.nn.functional import cross_entropy

from baihua.core.errors import RunError
from baihua.model.load import load_model
from baihua.train.examples.batches import collate
from baihua.train.layers.attention import use_document_attention
from baihua.train.layers.loss import (
    TargetLoss,
    bits_per_char,
    causal_model,
    target_loss,
)
from baihua.train.methods import lora
from baihua.train.plan.memory import NUM_LOGITS_PER_LONG_SLICE, NUM_LOGITS_PER_SLICE

NUM_TARGETS = 7
# The head's own product may be rounded by autocast; then slices differ in the order of their sums.
TOLERANCES = {"float32": 1e-5, "bfloat16": 2e-2}


class Wide(nn.Module):
    """A head that says it has so many logits that a slice holds only a few targets."""

    def __init__(self, head: nn.Module, slice_length: int, *, is_trained: bool = False) -> None:
        super().__init__()
        num_logits = NUM_LOGITS_PER_LONG_SLICE if is_trained else NUM_LOGITS_PER_SLICE
        self.weight = nn.Parameter(torch.empty(num_logits // slice_length, 0), requires_grad=is_trained)
        self.head = head

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.head(hidden) + self.weight.sum()


def plain(*, is_tied: bool, is_frozen: bool = False) -> nn.Module:
    return make_model(tie_word_embeddings=is_tied).requires_grad_(not is_frozen)


def adapted(*, is_tied: bool, **settings) -> nn.Module:
    """A model whose head is changed by what is trained, with nothing left at zero."""
    model = lora.prepare(make_model(tie_word_embeddings=is_tied), lora.Config(**({"rank": 4} | settings)))
    with torch.no_grad():
        for parameter in few_steps.trained(model).values():
            nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    return model


HEAD = ("q_proj", "lm_head")
MODELS = {
    "tied": lambda: plain(is_tied=True),
    "untied": lambda: plain(is_tied=False),
    "frozen": lambda: plain(is_tied=False, is_frozen=True),
    "lora": lambda: adapted(is_tied=False, target_modules=HEAD),
    "lora with dropout off": lambda: adapted(is_tied=False, target_modules=HEAD, dropout=0.5).eval(),
    "dora": lambda: adapted(is_tied=False, target_modules=HEAD, use_dora=True),
    "new tokens, tied": lambda: adapted(is_tied=True, first_new_token=120),
    "new tokens, untied": lambda: adapted(is_tied=False, first_new_token=120),
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("slice_length", [1, 2, NUM_TARGETS - 1, NUM_TARGETS, 100])
@pytest.mark.parametrize("name", MODELS)
def test_slices_cost_and_teach_what_all_logits_at_once_do(name: str, slice_length: int, precision) -> None:
    model = MODELS[name]()
    head = causal_model(model).get_output_embeddings()
    generator = torch.Generator().manual_seed(0)
    hidden_ND = torch.randn(NUM_TARGETS, 32, generator=generator).requires_grad_()
    labels_N = torch.randint(0, 128, (NUM_TARGETS,), generator=generator)
    used = {key: weight for key, weight in few_steps.trained(model).items() if is_in_head(key, name)}
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        wanted = cross_entropy(head(hidden_ND).float(), labels_N, reduction="sum")
        is_trained = head.weight.requires_grad if isinstance(head, nn.Linear) else False
        found = target_loss(Wide(head, slice_length, is_trained=is_trained), hidden_ND, labels_N)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    theirs = torch.autograd.grad(wanted, [hidden_ND, *used.values()], retain_graph=True)
    ours = torch.autograd.grad(found, [hidden_ND, *used.values()])
    for key, one, other in zip(["hidden", *used], ours, theirs, strict=True):
        assert distance(one, other) < TOLERANCES[precision], key


def is_in_head(key: str, name: str) -> bool:
    """Whether a trained parameter takes part in the head."""
    if name == "tied":
        return "embed_tokens" in key
    return "lm_head" in key or (name == "new tokens, tied" and "embed_tokens" in key)


@pytest.mark.parametrize("name", MODELS)
def test_a_whole_model_costs_and_teaches_what_plain_transformers_does(name: str) -> None:
    model, documents = MODELS[name](), make_documents([9, 30, 4])
    other = copy.deepcopy(model)
    use_document_attention(causal_model(model))
    wanted, found = loss_one_by_one(other, documents), TargetLoss(model, precision="float32")(collate(documents))
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    if name == "frozen":
        assert not found.requires_grad
        return
    ours, theirs = gradients(found, model), gradients(wanted, other)
    assert {key: distance(ours[key], theirs[key]) for key in theirs if distance(ours[key], theirs[key]) > 1e-5} == {}


@pytest.mark.parametrize("name", ["tied", "untied", "lora", "new tokens, tied"])
def test_without_targets_there_is_no_loss_and_every_gradient_is_zero(name: str) -> None:
    model = MODELS[name]()
    use_document_attention(causal_model(model))
    loss = TargetLoss(model, precision="float32")(collate(make_documents([9, 4], target_share=0.0)))
    loss.backward()
    assert loss.item() == 0.0
    assert {
        key for key, weight in few_steps.trained(model).items() if weight.grad is None or weight.grad.any()
    } == set()


def test_an_evaluation_keeps_nothing_for_a_backward_pass() -> None:
    model = MODELS["untied"]()
    use_document_attention(causal_model(model))
    with torch.no_grad():
        assert not TargetLoss(model, precision="float32")(collate(make_documents([9, 4]))).requires_grad


def test_the_gradient_follows_the_scale_of_the_loss() -> None:
    head, labels = nn.Linear(8, 16), torch.arange(5)
    hidden = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    once = torch.autograd.grad(target_loss(head, hidden, labels), [hidden, head.weight])
    thrice = torch.autograd.grad(target_loss(head, hidden, labels) * 3, [hidden, head.weight])
    for one, three in zip(once, thrice, strict=True):
        torch.testing.assert_close(one * 3, three)


def test_batches_of_unequal_size_have_the_gradient_of_one_batch(tiny_folder: Path) -> None:
    examples = encode_rows(tiny_folder, make_rows(7))
    net = load_model(tiny_folder)
    use_document_attention(net)
    loss_of = TargetLoss(net, precision="float32")
    wanted = gradients(loss_of(collate(examples)), net)
    for part in (examples[:1], examples[1:3], examples[3:]):
        loss_of(collate(part)).backward()
    assert max(distance(weight.grad, wanted[name]) for name, weight in net.named_parameters()) < 1e-5


def test_a_model_that_guesses_evenly_among_256_needs_8_bits_for_a_character() -> None:
    nats = 5 * torch.log(torch.tensor(256.0, dtype=torch.float64)).item()
    assert bits_per_char(nats, 5) == pytest.approx(8)


def test_no_characters_have_no_bits() -> None:
    with pytest.raises(RunError, match="the answers have no characters"):
        bits_per_char(1.0, 0)
