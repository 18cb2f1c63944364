"""The loss against torch's own, and gradients against one big batch."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from baihua.core.errors import RunError
from baihua.model import tiny
from baihua.model.load import load_model
from baihua.train.batches import collate
from baihua.train.loss import TargetLoss, bits_per_char, choose_precision, has_bfloat16
from conversations import encode_rows, make_rows


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("loss") / "tiny")


def test_a_padded_batch_costs_what_its_rows_cost_alone(model: Path) -> None:
    examples = encode_rows(model, make_rows(6, num_turns=2))
    net = load_model(model).eval()
    wanted = 0.0
    for example in examples:
        logits = net(input_ids=torch.tensor(example.ids_T[None])).logits[0]
        labels = torch.tensor(example.ids_T).long().where(torch.tensor(example.is_target_T), -100)
        wanted += cross_entropy(logits[:-1], labels[1:], reduction="sum").item()
    found = TargetLoss(net, precision="float32")(collate(examples)).item()
    assert found == pytest.approx(wanted, rel=1e-5)


def test_accumulated_unequal_batches_have_the_gradient_of_one_batch(model: Path) -> None:
    examples = encode_rows(model, make_rows(7))
    net = load_model(model)
    loss_of = TargetLoss(net, precision="float32")
    whole = collate(examples)
    (loss_of(whole) / len(whole.labels_N)).backward()
    wanted = {name: weight.grad.clone() for name, weight in net.named_parameters() if weight.grad is not None}
    net.zero_grad()
    for part in (examples[:1], examples[1:3], examples[3:]):
        (loss_of(collate(part)) / len(whole.labels_N)).backward()
    for name, weight in net.named_parameters():
        torch.testing.assert_close(weight.grad, wanted[name], rtol=1e-4, atol=1e-6)


def test_bfloat16_is_close_and_its_loss_is_float32(model: Path) -> None:
    batch = collate(encode_rows(model, make_rows(4)))
    net = load_model(model)
    exact, fast = (TargetLoss(net, precision=p)(batch) for p in ("float32", "bfloat16"))
    assert fast.dtype == torch.float32
    assert fast.item() == pytest.approx(exact.item(), rel=0.01)


def test_a_model_that_guesses_evenly_among_256_needs_8_bits_for_a_character() -> None:
    nats = 5 * torch.log(torch.tensor(256.0, dtype=torch.float64)).item()
    assert bits_per_char(nats, 5) == pytest.approx(8)


def test_no_characters_have_no_bits() -> None:
    with pytest.raises(RunError, match="the answers have no characters"):
        bits_per_char(1.0, 0)


def test_auto_is_bfloat16_exactly_where_the_hardware_has_it() -> None:
    cpu = torch.device("cpu")
    assert choose_precision("auto", cpu) == ("bfloat16" if has_bfloat16(cpu) else "float32")
    assert choose_precision("float32", cpu) == "float32"


def test_bfloat16_without_hardware_is_possible_but_warns(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_precision("bfloat16", torch.device("meta")) == "bfloat16"
    assert "no bfloat16 arithmetic" in caplog.text
