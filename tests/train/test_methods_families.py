"""Every method works on every family of dense models that we name, with a tied output layer and with one of its own."""

from pathlib import Path

import few_steps
import pytest
import torch
from oracles import load_adapted, merge
from torch import nn
from transformers import PreTrainedModel

from baihua.model.load import load_model
from baihua.model.merge import attach

CASES = [(family, is_tied) for family in few_steps.FAMILIES for is_tied in (True, False)]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{'tied' if case[1] else 'untied'}")
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family, is_tied = request.param
    return few_steps.make_family(tmp_path_factory.mktemp(family) / "base", family, is_tied=is_tied)


@pytest.mark.parametrize("name", few_steps.NAMES)
def test_it_moves_what_it_trains_and_nothing_else_and_saves_it(name: str, base: Path, tmp_path: Path) -> None:
    method, model = few_steps.open_method(name), few_steps.prepare(name, base)
    trained, frozen = few_steps.copies(few_steps.trained(model)), few_steps.copies(few_steps.frozen(model))
    few_steps.take_steps(model)
    assert [key for key, weight in few_steps.trained(model).items() if torch.equal(weight, trained[key])] == []
    assert [key for key, weight in few_steps.frozen(model).items() if not torch.equal(weight, frozen[key])] == []
    saved = few_steps.save(name, model, tmp_path / "saved", base=base)
    if method.OUTPUT == "model":
        again = load_model(saved)
    else:
        again = attach(method.load(base, precision="float32", device=few_steps.CPU), saved)
    torch.testing.assert_close(few_steps.logits_of(again), few_steps.logits_of(model), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["embeddings", "lora"])
def test_new_rows_merge_wherever_the_output_layer_is(name: str, base: Path, tmp_path: Path) -> None:
    model = few_steps.prepare(name, base, first_new_token=few_steps.FIRST_NEW)
    few_steps.take_steps(model)
    saved = few_steps.save(name, model, tmp_path / "saved", base=base)
    merged, before = merge(base, saved), load_model(base)
    torch.testing.assert_close(
        few_steps.logits_of(merged), few_steps.logits_of(load_adapted(base, saved)), rtol=0, atol=1e-4
    )
    for layer in (PreTrainedModel.get_input_embeddings, PreTrainedModel.get_output_embeddings):
        rows, rows_before = layer(merged).weight, layer(before).weight
        assert torch.equal(rows[: few_steps.FIRST_NEW], rows_before[: few_steps.FIRST_NEW])
        assert (rows[few_steps.FIRST_NEW :] != rows_before[few_steps.FIRST_NEW :]).any(dim=1).all()


def test_lora_sits_on_every_linear_layer_of_the_decoder_and_not_on_the_head(base: Path) -> None:
    plain = load_model(base)
    linears = {name for name, module in plain.model.named_modules() if isinstance(module, nn.Linear)}
    trained = few_steps.trained(few_steps.prepare("lora", base))
    prefix = "base_model.model.model."
    adapted = {name.removeprefix(prefix).partition(".lora_")[0] for name in trained if name.startswith(prefix)}
    assert len(trained) == 2 * len(linears)
    assert adapted == linears
    assert len(linears) == 21
