"""Documents packed into one row against plain transformers, one document at a time: same loss, same gradients."""

import copy
from typing import Any

import pytest
import torch
from documents import distance, gradients, loss_one_by_one, make_documents, make_model
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from baihua.train.examples.batches import collate
from baihua.train.layers import attention
from baihua.train.layers.attention import MAX_WHOLE_LENGTH, use_document_attention
from baihua.train.layers.loss import TargetLoss

WINDOW = 7
MODELS: dict[str, dict[str, Any]] = {
    "llama": {"family": "llama"},
    "tied": {"family": "llama", "tie_word_embeddings": True},
    "one key head": {"family": "llama", "num_key_value_heads": 1},
    "as many key heads": {"family": "llama", "num_key_value_heads": 4},
    "sliding window": {"family": "mistral", "sliding_window": WINDOW},
    "qwen2 with biases": {"family": "qwen2"},
    "qwen3 with norms": {"family": "qwen3"},
}
LENGTHS = [3, 1, 41, 8, 2, 30]
# On both sides of where the backward pass changes its kernel.
LONG = [MAX_WHOLE_LENGTH + 30, 5, MAX_WHOLE_LENGTH, MAX_WHOLE_LENGTH + 1]


def packed(plain: nn.Module) -> nn.Module:
    """The same model, attending within documents."""
    model = copy.deepcopy(plain)
    use_document_attention(model)
    return model


@pytest.mark.parametrize("lengths", [LENGTHS, LONG], ids=["short", "long"])
@pytest.mark.parametrize("name", MODELS)
def test_packed_documents_cost_and_teach_what_each_does_alone(name: str, lengths: list[int]) -> None:
    plain, documents = make_model(**MODELS[name]), make_documents(lengths)
    model = packed(plain)
    wanted, found = loss_one_by_one(plain, documents), TargetLoss(model, precision="float32")(collate(documents))
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    ours, theirs = gradients(found, model), gradients(wanted, plain)
    assert {key: distance(ours[key], theirs[key]) for key in theirs if distance(ours[key], theirs[key]) > 1e-5} == {}


PLAIN = make_model()
PACKED = packed(PLAIN)


@given(lengths=st.lists(st.integers(2, 60), min_size=1, max_size=8), seed=st.integers(0, 99))
@example(lengths=[64], seed=0)
@example(lengths=[2] * 32, seed=0)
@settings(max_examples=20, deadline=None)
def test_this_holds_for_documents_of_any_lengths(lengths: list[int], seed: int) -> None:
    documents = make_documents(lengths, seed=seed, target_share=1.0)
    wanted = loss_one_by_one(PLAIN, documents)
    found = TargetLoss(PACKED, precision="float32")(collate(documents))
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    ours, theirs = gradients(found, PACKED), gradients(wanted, PLAIN)
    assert max(distance(ours[key], theirs[key]) for key in theirs) < 1e-5


@pytest.mark.parametrize("name", ["llama", "sliding window"])
@pytest.mark.parametrize("lengths", [LENGTHS, LONG], ids=["short", "long"])
def test_bfloat16_is_no_further_from_float32_than_plain_transformers_is(name: str, lengths: list[int]) -> None:
    plain, documents = make_model(**MODELS[name]), make_documents(lengths)
    model = packed(plain)
    exact = loss_one_by_one(plain, documents)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = loss_one_by_one(plain, documents)
    found = TargetLoss(model, precision="bfloat16")(collate(documents))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exact.item(), rel=0.01)
    wanted, theirs, ours = gradients(exact, plain), gradients(rounded, plain), gradients(found, model)
    for key, gradient in wanted.items():
        assert distance(ours[key], gradient) < 1.5 * distance(theirs[key], gradient) + 0.005, key


def test_a_document_never_sees_the_others() -> None:
    documents = make_documents([9, 12, 7])
    others = [make_documents([9], seed=50)[0], documents[1], make_documents([7], seed=51)[0]]
    hidden = []
    for each in (documents, others):
        batch = collate(each)
        found = PACKED.get_decoder()(
            input_ids=batch.ids_T[None],
            position_ids=batch.positions_T[None],
            cu_seq_lens_q=batch.ends,
            max_length_q=batch.longest,
            use_cache=False,
        )
        hidden.append(found.last_hidden_state[0, 9:21])
    assert torch.equal(hidden[0], hidden[1])


def test_a_window_shorter_than_a_document_changes_its_loss() -> None:
    documents = make_documents([WINDOW * 4], target_share=1.0)
    seen = [loss_one_by_one(make_model("mistral", sliding_window=width), documents).item() for width in (WINDOW, 999)]
    assert seen[0] != pytest.approx(seen[1], rel=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_recomputed_activations_give_the_same_gradients(precision) -> None:
    model, documents = copy.deepcopy(PACKED), make_documents(LENGTHS)
    wanted = gradients(TargetLoss(model, precision=precision)(collate(documents)), model)
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    loss = TargetLoss(model, precision=precision)(collate(documents))
    loss.backward()
    assert all(torch.equal(parameter.grad, wanted[name]) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("num_keys", [1, 2, 6])
def test_whole_matrices_give_the_gradients_of_the_kernel(num_keys: int) -> None:
    torch.manual_seed(0)
    q, g = (torch.randn(6, 50, 16) for _ in range(2))
    k, v = (torch.randn(num_keys, 50, 16) for _ in range(2))
    out, sums = attention.FORWARD(q[None], k[None], v[None], 0.0, True, scale=0.3)
    document = (q, k, v, out[0], g, sums[0], 0.3)
    wanted = attention.backward_by_blocks(*document)
    for found, one in zip(attention.backward_by_matrices(*document), wanted, strict=True):
        torch.testing.assert_close(found, one, rtol=1e-4, atol=1e-5)
