"""The fused LoRA layer against PEFT's own: same output, same gradients, and PEFT's wherever it is out of its depth."""

import copy

import peft
import pytest
import torch
from documents import distance
from torch import nn

from baihua.train.layers.lora import FusedLora

SHAPES = [(7, 6), (2, 7, 6)]


def make(*, has_bias: bool, is_fused: bool) -> peft.PeftModel:
    """One linear layer with matrices that are not zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = peft.LoraConfig(r=3, lora_alpha=12, target_modules=["0"])
        if is_fused:
            config._register_custom_module({nn.Linear: FusedLora})
        model = peft.get_peft_model(nn.Sequential(nn.Linear(6, 5, bias=has_bias)), config)  # type: ignore[arg-type]
        for name, parameter in sorted(model.named_parameters()):
            if "lora_" in name:
                nn.init.normal_(parameter)
    return model


def pair(*, has_bias: bool = True) -> tuple[peft.PeftModel, peft.PeftModel]:
    """The same layer, ours and theirs."""
    ours, theirs = (make(has_bias=has_bias, is_fused=is_fused) for is_fused in (True, False))
    assert [type(module) for module in ours.modules()].count(FusedLora) == 1
    assert all(torch.equal(weight, theirs.state_dict()[name]) for name, weight in ours.state_dict().items())
    return ours, theirs


def run(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Output, and gradients of the input and of what is trained."""
    x = x.clone().requires_grad_()
    y = model(x)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [y, *torch.autograd.grad((y.float() ** 2).sum(), [x, *trained])]


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_computes_and_teaches_what_pefts_layer_does(shape: tuple[int, ...], has_bias: bool) -> None:
    ours, theirs = pair(has_bias=has_bias)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    for found, wanted in zip(run(ours, x), run(theirs, x), strict=True):
        assert found.shape == wanted.shape
        assert distance(found, wanted) < 1e-5


def test_in_bfloat16_it_is_no_further_from_float32_than_pefts_layer() -> None:
    ours, theirs = pair()
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(1)).bfloat16()
    for model in (ours, theirs):
        model.get_base_model()[0].base_layer.bfloat16()
    exact = run(copy.deepcopy(theirs).float(), x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, rounded = run(ours, x), run(theirs, x)
    for one, other, wanted in zip(found, rounded, exact, strict=True):
        assert one.dtype == other.dtype
        assert distance(one, wanted) < 1.5 * distance(other, wanted) + 0.005


def test_a_frozen_input_gets_no_gradient_and_the_matrices_do() -> None:
    model, _ = pair()
    model(torch.ones(7, 6)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


def mix_precisions(model: peft.PeftModel) -> torch.Tensor:
    """Weights and inputs of float32 under autocast, which multiplies in bfloat16."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return model(torch.ones(7, 6))


def merge(model: peft.PeftModel) -> torch.Tensor:
    model.merge_adapter()
    return model(torch.ones(7, 6))


def disable(model: peft.PeftModel) -> torch.Tensor:
    with model.disable_adapter():
        return model(torch.ones(7, 6))


def add_another(model: peft.PeftModel) -> torch.Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model.add_adapter("other", peft.LoraConfig(r=2, target_modules=["0"], init_lora_weights=False))
    model.base_model.set_adapter(["default", "other"])
    return model(torch.ones(7, 6))


@pytest.mark.parametrize("change", [mix_precisions, merge, disable, add_another])
def test_what_is_out_of_the_ordinary_is_left_to_peft(change) -> None:
    ours, theirs = pair()
    assert torch.equal(change(ours), change(theirs))
