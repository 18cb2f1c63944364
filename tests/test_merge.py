"""A merged model is base plus adapter, or it is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import few_steps
from baihua.core.errors import InputError, RunError
from baihua.data.rows import write_rows
from baihua.model import tiny
from baihua.model.load import load_model
from baihua.model.merge import check_same_weights, load_adapted, merge
from baihua.model.parity import Parity, check_parity, compare, log_probs_of
from baihua.stages import merge as stage
from conversations import make_rows


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("merge") / "base")


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = few_steps.prepare("lora", base, rank=4)
    few_steps.take_steps(model)
    jinja = (base / "chat_template.jinja").read_text()
    return few_steps.save("lora", model, tmp_path_factory.mktemp("adapter"), base=base, jinja=jinja)


def copy_of(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.mark.parametrize("with_data", [True, False])
def test_the_stage_merges_and_its_figures_say_so(base: Path, adapter: Path, tmp_path: Path, with_data: bool) -> None:
    write_rows(make_rows(60), tmp_path / "data")
    inputs = {"model": base, "adapter": adapter} | ({"data": tmp_path / "data"} if with_data else {})
    figures = stage.run(stage.Config(), inputs, tmp_path / "out")
    assert figures["mean_kl"] < 1e-6
    assert figures["same_top_share"] == 1.0
    assert 0 < figures["max_abs_logit_difference"] < 1e-3
    texts = [[1, 5, 9, 300]]
    parity = compare(log_probs_of(load_model(base)), log_probs_of(load_model(tmp_path / "out")), texts)
    assert parity.mean_kl > 1e-4, "the adapter changed something"


def test_one_corrupted_row_is_found_wherever_it_is(base: Path, adapter: Path, tmp_path: Path) -> None:
    merged = merge(base, adapter)
    merged.save_pretrained(tmp_path)
    check_same_weights(merged, load_model(tmp_path))
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    # Row 499 belongs to a token that no text of ours contains; the output layer is tied to it.
    tensors["model.embed_tokens.weight"][499, 0] += 1e-6
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(
        RunError, match=r"2 tensors differ from what was saved .* the first is 'model\.embed_tokens"
    ) as error:
        check_same_weights(merged, load_model(tmp_path))
    assert "check the disk" in str(error.value)


def test_another_base_of_the_same_size_is_refused(adapter: Path, tmp_path: Path) -> None:
    other = tiny.make(tmp_path / "other", seed=1)
    with pytest.raises(InputError, match=r"trained on 'base' with fingerprint .*the base given is 'other'"):
        merge(other, adapter)


def test_another_vocabulary_is_refused_with_both_sizes(base: Path, adapter: Path, tmp_path: Path) -> None:
    copy = copy_of(base, tmp_path)
    file = copy / "tokenizer.json"
    settings = json.loads(file.read_text())
    settings["added_tokens"].append(settings["added_tokens"][0] | {"id": 512, "content": "新"})
    file.write_text(json.dumps(settings))
    with pytest.raises(InputError, match="the base has 513 tokens, the adapter was trained with 512"):
        merge(copy, adapter)


def test_an_adapter_of_another_tool_is_trusted_with_a_warning(
    base: Path, adapter: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = copy_of(adapter, tmp_path)
    (copy / "tokenizer.json").unlink()
    file = copy / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"revision": None}))
    merge(base, copy)
    assert "does not say by fingerprint which base" in caplog.text


def test_a_model_is_not_an_adapter(base: Path) -> None:
    with pytest.raises(InputError, match=r"this is not an adapter: it has no adapter_config\.json"):
        merge(base, base)


def test_a_broken_adapter_is_named(base: Path, adapter: Path, tmp_path: Path) -> None:
    copy = copy_of(adapter, tmp_path)
    file = copy / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(InputError, match="cannot load the adapter"):
        load_adapted(base, copy)


def test_an_adapter_that_lacks_a_tensor_is_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    copy = copy_of(adapter, tmp_path)
    file = copy / "adapter_model.safetensors"
    tensors = load_file(file)
    lost = sorted(tensors)[0]
    save_file({name: tensor for name, tensor in tensors.items() if name != lost}, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match="cannot load the adapter: Found missing adapter keys"):
        load_adapted(base, copy)


def test_a_model_is_at_no_distance_from_itself(base: Path) -> None:
    log_probs = log_probs_of(load_model(base))
    assert compare(log_probs, log_probs, [[1, 2, 3], [4, 5]]) == Parity(0.0, 1.0, 0.0, 5)


def test_the_distance_is_the_kl_of_torch() -> None:
    a, b = torch.randn(2, 6, 11).log_softmax(-1)
    wanted = torch.nn.functional.kl_div(b, a, log_target=True, reduction="batchmean").item()
    parity = compare(lambda ids: a.numpy(), lambda ids: b.numpy(), [[0] * 6])
    assert parity.mean_kl == pytest.approx(wanted, rel=1e-5)
    assert parity.max_abs_logit_difference == pytest.approx((a - b).abs().max().item())


@pytest.mark.parametrize(
    "parity", [Parity(1e-3, 1.0, 0.0, 9), Parity(0.0, 0.98, 0.0, 9), Parity(float("nan"), 1.0, 0.0, 9)]
)
def test_a_difference_or_a_missing_number_is_refused_with_the_figures(parity: Parity) -> None:
    with pytest.raises(RunError, match=r"merged: mean KL (1\.00e-03|0\.00e\+00|nan) .* of 9 positions"):
        check_parity(parity, what="merged")


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(RunError, match="cannot be compared without a text"):
        compare(lambda ids: np.zeros((1, 1)), lambda ids: np.zeros((1, 1)), [])
