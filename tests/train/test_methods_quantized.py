"""Frozen weights of 8 and 4 bits: what is held in them, that gradients are right, and what is refused."""

import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import few_steps
import pytest
import tiny
import torch
from torch import nn

from baihua.core.errors import InputError
from baihua.model.load import load_model
from baihua.train.methods import int8, lora, qlora


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("quantized") / "tiny")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All widths are multiples of 64, which bitsandbytes treats in a way of their own on some CPUs."""
    return few_steps.make_family(
        tmp_path_factory.mktemp("narrow") / "base", "llama", is_tied=True, intermediate_size=128
    )


def dequantized(layer: Any) -> torch.Tensor:
    """The weight that a quantized layer multiplies with."""
    import bitsandbytes

    if isinstance(layer, bitsandbytes.nn.Linear4bit):
        return bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    return bitsandbytes.functional.int8_vectorwise_dequant(layer.weight.data, layer.weight.SCB)


def like(base: Path, quantized: nn.Module) -> nn.Module:
    """The base in float32, with the rounded weights of a quantized one."""
    plain, rounded = load_model(base), dict(quantized.named_modules())
    for name, module in plain.model.named_modules():
        if isinstance(module, nn.Linear):
            module.weight.data = dequantized(rounded[f"model.{name}"])
    return plain


@pytest.mark.parametrize("name", few_steps.QUANTIZED)
def test_gradients_are_those_of_lora_over_the_rounded_weights(name: str, base: Path) -> None:
    method = few_steps.open_method(name)
    quantized = method.load(base, precision="float32", device=few_steps.CPU)
    plain = lora.prepare(like(base, quantized), lora.Config())
    model = method.prepare(quantized, method.Config())
    for both in (plain, model):
        torch.manual_seed(0)
        for weight in few_steps.trained(both).values():
            nn.init.normal_(weight, std=0.02)
    wanted, found = few_steps.gradients(plain), few_steps.gradients(model)
    assert wanted.keys() == found.keys()
    for key, gradient in wanted.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("name", "bytes_per_weight"), [("int8", 1.0), ("qlora", 0.5)])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_only_the_decoders_linear_layers_are_quantized(name: str, bytes_per_weight, precision, base: Path) -> None:
    model = few_steps.open_method(name).load(base, precision=precision, device=few_steps.CPU)
    shapes = {name: weight.numel() for name, weight in load_model(base).named_parameters()}
    dtype = getattr(torch, precision)
    for key, weight in model.named_parameters():
        if key.endswith("_proj.weight"):
            assert weight.nbytes == shapes[key] * bytes_per_weight
        else:
            assert (weight.dtype, weight.numel()) == (dtype, shapes[key])
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_four_bits_are_nf4_with_scales_that_are_quantized_again(base: Path) -> None:
    model = few_steps.open_method("qlora").load(base, precision="bfloat16", device=few_steps.CPU)
    layer = model.model.layers[0].mlp.up_proj
    state = layer.weight.quant_state
    assert (state.quant_type, state.nested, layer.compute_dtype) == ("nf4", True, torch.bfloat16)


def test_eight_bits_let_outliers_be_multiplied_in_more(base: Path) -> None:
    model = few_steps.open_method("int8").load(base, precision="float32", device=few_steps.CPU)
    assert model.model.layers[0].mlp.up_proj.state.threshold == 6.0


@pytest.mark.parametrize("name", few_steps.QUANTIZED)
def test_a_measurement_does_not_repack_the_weights(name: str, narrow: Path) -> None:
    model = few_steps.prepare(name, narrow)
    before, frozen = few_steps.gradients(model), few_steps.copies(few_steps.frozen(model))
    few_steps.logits_of(model)
    after = few_steps.gradients(model)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(torch.equal(tensor, frozen[key]) for key, tensor in few_steps.frozen(model).items())


def test_dora_over_eight_bits_is_refused_on_a_cpu(base: Path) -> None:
    model = few_steps.open_method("int8").load(base, precision="float32", device=few_steps.CPU)
    with pytest.raises(InputError, match="DoRA over weights of 8 bits does not work on a CPU") as error:
        int8.prepare(model, int8.Config(use_dora=True))
    assert "use method `qlora` or `lora`" in str(error.value)


@pytest.mark.parametrize(("method", "num_bits"), [(int8, 8), (qlora, 4)])
def test_without_bitsandbytes_the_command_that_installs_it_is_named(
    method, num_bits: int, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # None makes an import fail.
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(InputError) as error:
        method.load(base, precision="float32", device=few_steps.CPU)
    assert str(error.value) == (
        f"a base with weights of {num_bits} bits needs bitsandbytes, which is not installed\n"
        "  where: method.kind\n"
        "  fix:   pip install 'baihua[gpu]'"
    )


def test_code_from_the_hub_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bitsandbytes", "kernels"):
        module = types.ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(InputError) as error:
        load_model(base)
    assert str(error.value) == (
        "the package `kernels` is installed, with which bitsandbytes loads and runs code from the hub\n"
        "  where: this Python environment\n"
        "  fix:   pip uninstall kernels"
    )


@pytest.mark.parametrize("method", [int8, qlora])
def test_a_folder_is_checked_like_any_other(method, base: Path, tmp_path: Path) -> None:
    few_steps.open_method(method.Config().kind)
    (tmp_path / "config.json").write_bytes((base / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match="a pickle file can run any code"):
        method.load(tmp_path, precision="float32", device=few_steps.CPU)
