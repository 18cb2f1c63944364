"""Methods that train a part of a model: its last layers, or the rows of new tokens."""

import shutil
from pathlib import Path

import few_steps
import pytest
import tiny
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from baihua.core.errors import InputError
from baihua.model.load import load_model
from baihua.model.weights import read_tensors
from baihua.modelfiles.folder import weight_files
from baihua.train.methods import embeddings, freeze


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("parts") / "tiny")


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16, torch.float16], ids=str)
def sharded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three layers in several files, the output layer apart from the input rows."""
    folder = tmp_path_factory.mktemp("sharded") / "base"
    return few_steps.make_family(folder, "llama", is_tied=False, dtype=request.param)


def copy_of(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_the_last_layers_and_the_norm_are_trained(sharded: Path) -> None:
    names = few_steps.trained(few_steps.prepare("freeze", sharded, num_layers=2))
    places = {".".join(name.split(".")[:3]) for name in names}
    assert places == {"model.layers.1", "model.layers.2", "model.norm.weight"}


def test_the_head_is_trained_only_where_that_is_asked_for(sharded: Path) -> None:
    names = few_steps.trained(few_steps.prepare("freeze", sharded, num_layers=1, train_head=True))
    assert "lm_head.weight" in names
    assert not any("layers.1" in name or "embed" in name for name in names)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_frozen_weights_keep_the_bits_that_they_have_on_disk(sharded: Path, precision, tmp_path: Path) -> None:
    model = few_steps.prepare("freeze", sharded, precision, num_layers=1)
    few_steps.take_steps(model, precision=precision)
    saved = few_steps.save("freeze", model, tmp_path / "saved", base=sharded)
    trained = few_steps.trained(model)
    assert [file.name for file in weight_files(saved)] == [file.name for file in weight_files(sharded)]
    assert len(weight_files(saved)) > 1
    for file in weight_files(sharded):
        before, after = load_file(file), load_file(saved / file.name)
        assert before.keys() == after.keys()
        for name, tensor in before.items():
            assert after[name].dtype == tensor.dtype
            wanted = trained[name].detach().to(tensor.dtype) if name in trained else tensor
            assert torch.equal(after[name], wanted)
    load_model(saved)


def test_training_starts_from_the_weights_on_disk_and_not_from_rounded_ones(base: Path) -> None:
    model = few_steps.prepare("freeze", base, "bfloat16", num_layers=1)
    exact = load_file(base / "model.safetensors")
    assert all(torch.equal(weight, exact[name]) for name, weight in few_steps.trained(model).items())
    assert {weight.dtype for weight in few_steps.frozen(model).values() if weight.ndim == 2} == {torch.bfloat16}


def test_more_layers_than_there_are_is_refused(base: Path) -> None:
    with pytest.raises(InputError, match="the model has 2 layers, but 3 were requested") as error:
        freeze.prepare(load_model(base), freeze.Config(num_layers=3))
    assert "give at most 2" in str(error.value)


def test_a_tied_head_is_not_trained_alone(base: Path) -> None:
    with pytest.raises(InputError, match="output layer of this model is tied to its input embeddings") as error:
        freeze.prepare(load_model(base), freeze.Config(train_head=True))
    assert "remove `train_head`" in str(error.value)


def test_weights_under_other_names_are_noticed_before_training(base: Path, tmp_path: Path) -> None:
    copy = copy_of(base, tmp_path)
    file = copy / "model.safetensors"
    tensors = load_file(file)
    # transformers finds weights without the prefix as well.
    save_file({name.removeprefix("model."): tensor for name, tensor in tensors.items()}, file, {"format": "pt"})
    model = load_model(copy)
    with pytest.raises(InputError, match=r"lack 10 of the model's tensors, the first is 'model\.layers\.1") as error:
        freeze.prepare(model, freeze.Config(num_layers=1))
    assert "save it again" in str(error.value)


def test_only_the_files_that_are_loaded_are_copied(base: Path, tmp_path: Path) -> None:
    copy = copy_of(base, tmp_path)
    (copy / "consolidated.safetensors").write_bytes((copy / "model.safetensors").read_bytes())
    assert [file.name for file in weight_files(copy)] == ["model.safetensors"]


def test_weights_without_an_index_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither model\.safetensors nor a model\.safetensors\.index\.json"):
        read_tensors(tmp_path, ["x"])


def test_new_rows_alone_are_trained_in_and_out(sharded: Path) -> None:
    trained = few_steps.trained(few_steps.prepare("embeddings", sharded, first_new_token=500))
    assert {tuple(weight.shape) for weight in trained.values()} == {(12, 64)}
    assert sorted(name.split(".")[-3] for name in trained) == ["embed_tokens", "lm_head"]


def test_a_tied_output_layer_follows_the_new_rows(base: Path) -> None:
    model = few_steps.prepare("embeddings", base)
    before = few_steps.logits_of(model)
    assert len(few_steps.trained(model)) == 1
    few_steps.take_steps(model)
    changed = (few_steps.logits_of(model) != before).any(dim=(0, 1))
    assert changed[few_steps.FIRST_NEW :].all()


def test_embeddings_must_be_told_which_tokens_are_new(base: Path) -> None:
    with pytest.raises(ValidationError, match="first_new_token"):
        embeddings.Config.model_validate({})
    with pytest.raises(InputError, match="first_new_token is 512, but the model has 512 tokens") as error:
        embeddings.prepare(load_model(base), embeddings.Config(first_new_token=512))
    assert "that `vocabulary` extended" in str(error.value)


def test_a_layer_that_no_model_has_is_refused_with_the_nearest(base: Path) -> None:
    with pytest.raises(InputError, match=r"unknown linear layer 'q_projj'; did you mean 'q_proj'\?") as error:
        few_steps.prepare("lora", base, target_modules=("k_proj", "q_projj"))
    assert error.value.where == "method.target_modules"


@pytest.mark.parametrize("name", ["lora", "embeddings"])
def test_a_new_token_beyond_the_vocabulary_is_refused(base: Path, name: str) -> None:
    with pytest.raises(InputError, match="first_new_token is 512, but the model has 512 tokens") as error:
        few_steps.prepare(name, base, first_new_token=512)
    assert error.value.where == "method.first_new_token"
