"""A model that reads its weights while it works says what the model in memory says, to the last bit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import few_steps
import numpy as np
import pytest
import tiny
import torch
from oracles import log_probs_of
from safetensors.torch import load_file, save_file
from torch import nn

from baihua.core.errors import InputError, RunError
from baihua.model.load import load_model
from baihua.model.streamed import EMBEDDINGS, HEAD, log_probs_of_all, open_skeleton, open_streamed
from baihua.model.weights import ShardWriter, WeightFiles, check_shard
from baihua.modelfiles.folder import Precision, weight_files

CASES = [(family, is_tied) for family in few_steps.FAMILIES for is_tied in (True, False)]
TEXTS = [[1, 5, 9, 300], [7], [2, 3, 4, 5, 6, 7, 8], [400, 401]]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{'tied' if case[1] else 'untied'}")
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name, is_tied = request.param
    return few_steps.make_family(tmp_path_factory.mktemp(name) / "base", name, is_tied=is_tied)


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """The tiny model, tied, in one file; to be changed."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def set_config(folder: Path, **settings: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_family_says_the_same_as_in_memory(family: Path, dtype: Precision) -> None:
    streamed, whole = open_streamed(family, dtype), load_model(family, dtype=dtype)
    assert torch.equal(few_steps.logits_of(streamed), few_steps.logits_of(whole))
    assert dict(streamed.named_buffers()).keys() == dict(whole.named_buffers()).keys()


def test_padding_with_a_mask_changes_nothing(tiny_folder: Path) -> None:
    ids_BT = torch.tensor([[5, 6, 7], [8, 0, 0]])  # noqa: N806
    mask_BT = torch.tensor([[1, 1, 1], [1, 0, 0]])  # noqa: N806
    with torch.inference_mode():
        found, wanted = (
            model(input_ids=ids_BT, attention_mask=mask_BT).logits
            for model in (open_streamed(tiny_folder), load_model(tiny_folder))
        )
    assert torch.equal(found, wanted)


@pytest.mark.parametrize(("max_tokens", "max_logits_bytes"), [(8192, 2**28), (8, 2**28), (8192, 4 * 512 * 3), (1, 1)])
def test_texts_keep_their_order_and_numbers_in_any_batches(
    family: Path, max_tokens: int, max_logits_bytes: int
) -> None:
    found = log_probs_of_all(open_streamed(family), TEXTS, max_tokens=max_tokens, max_logits_bytes=max_logits_bytes)
    alone = log_probs_of(load_model(family))
    for rows, ids in zip(found, TEXTS, strict=True):
        np.testing.assert_allclose(rows, alone(ids), rtol=0, atol=1e-5)


def is_in_memory(parameter: nn.Parameter) -> bool:
    return parameter.untyped_storage().nbytes() > 4


def test_one_layer_is_in_memory_at_a_time_and_none_afterwards(family: Path) -> None:
    model = open_streamed(family)
    counts: list[int] = []
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.register_forward_pre_hook(
                lambda *_: counts.append(sum(is_in_memory(weight) for weight in model.parameters()))
            )
    few_steps.logits_of(model)
    # A linear layer of Qwen2 has a bias besides.
    assert set(counts) <= {1, 2}
    assert len(counts) == 23
    assert not any(is_in_memory(weight) for weight in model.parameters())


def test_hooks_of_others_see_inputs_and_whole_weights(tiny_folder: Path) -> None:
    model, whole = open_streamed(tiny_folder), load_model(tiny_folder)
    name = "model.layers.1.mlp.down_proj"
    seen: list[torch.Tensor] = []
    layer = model.get_submodule(name)
    layer.register_forward_pre_hook(lambda _, inputs: seen.extend([inputs[0], layer.get_parameter("weight").clone()]))
    few_steps.logits_of(model)
    assert seen[0].shape == (*few_steps.IDS.shape, 160)
    assert torch.equal(seen[1], whole.get_parameter(f"{name}.weight"))


def test_a_weight_that_is_not_brought_cannot_pass_for_a_number(tiny_folder: Path) -> None:
    assert open_skeleton(tiny_folder).model(input_ids=torch.tensor([[1]])).logits.isnan().all()


def test_weights_are_taken_away_even_when_a_pass_fails(tiny_folder: Path) -> None:
    model = open_streamed(tiny_folder)
    with pytest.raises(IndexError):
        model(input_ids=torch.tensor([[tiny.NUM_TOKENS]]))
    assert not any(is_in_memory(weight) for weight in model.parameters())


def test_tied_weights_are_found_under_either_name(folder: Path) -> None:
    wanted = few_steps.logits_of(load_model(folder))
    edit(folder, lambda tensors: tensors.update({HEAD: tensors.pop(EMBEDDINGS)}))
    assert torch.equal(few_steps.logits_of(open_streamed(folder)), wanted)


@pytest.mark.parametrize("is_same", [True, False])
def test_an_output_layer_that_differs_from_the_rows_is_believed(folder: Path, is_same: bool) -> None:
    edit(folder, lambda tensors: tensors.update({HEAD: tensors[EMBEDDINGS] + (not is_same)}))
    assert open_skeleton(folder).is_tied == is_same
    assert torch.equal(few_steps.logits_of(open_streamed(folder)), few_steps.logits_of(load_model(folder)))


def test_a_missing_tensor_is_named(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.pop("model.norm.weight"))
    with pytest.raises(InputError, match=r"lack 1 of the model's tensors, the first is 'model\.norm\.weight'"):
        open_streamed(folder)


def test_another_shape_is_named(folder: Path) -> None:
    set_config(folder, vocab_size=600)
    with pytest.raises(
        InputError, match=r"'model\.embed_tokens\.weight' has the shape \(512, 64\), expected \(600, 64\)"
    ) as error:
        open_streamed(folder)
    assert "import the model again" in str(error.value)


def test_quantized_models_are_refused(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({"model.norm.weight": torch.zeros(64, dtype=torch.int8)}))
    with pytest.raises(InputError, match=r"'model\.norm\.weight' is stored as I8, which is not a plain floating"):
        open_streamed(folder)
    set_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(InputError, match="the model's weights are quantized"):
        open_streamed(folder)


def test_another_family_is_refused_with_the_known_ones(folder: Path) -> None:
    set_config(folder, model_type="gpt2", architectures=["GPT2LMHeadModel"])
    with pytest.raises(InputError, match=r"of type 'gpt2' .*; known are llama \(LlamaForCausalLM\)"):
        open_streamed(folder)


def test_a_cut_or_missing_file_is_named(tmp_path: Path) -> None:
    folder = few_steps.make_family(tmp_path / "base", "llama", is_tied=False)
    file = weight_files(folder)[1]
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(InputError, match="the weight file is damaged or incomplete") as error:
        open_streamed(folder)
    assert error.value.where == str(file)
    file.unlink()
    with pytest.raises(InputError, match="names a missing weight file"):
        open_streamed(folder)


def test_shards_hold_everything_in_bounded_files(tmp_path: Path) -> None:
    tensors = {f"layer.{number}": torch.full((10,), float(number)) for number in range(5)}
    writer = ShardWriter(tmp_path, max_shard_bytes=80)
    for name, tensor in tensors.items():
        writer.add(name, tensor)
    writer.add("large", torch.zeros(100))
    writer.close()
    assert [file.name for file in weight_files(tmp_path)] == [
        f"model-0000{n}-of-00004.safetensors" for n in range(1, 5)
    ]
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".json"] + [".safetensors"] * 4
    files = WeightFiles(tmp_path)
    assert list(files.places) == [*tensors, "large"]
    assert all(torch.equal(files.read(name), tensor) for name, tensor in tensors.items())
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 5 * 40 + 400}


@pytest.mark.parametrize(
    "damage", [lambda t: t.mul_(1 + 2e-7), lambda t: t.neg_(), lambda t: t.double(), lambda t: t[1:]]
)
def test_every_bit_of_a_shard_is_compared(tmp_path: Path, damage: Callable[[torch.Tensor], torch.Tensor]) -> None:
    tensors = {"a": torch.ones(3, 2), "b": torch.zeros(3, 2), "c": torch.ones(3, 2)}
    save_file(tensors, tmp_path / "x.safetensors")
    check_shard(tmp_path / "x.safetensors", tensors)
    # The negative zero is another bit, too.
    name = "b" if damage(torch.ones(1)).sum() < 0 else "c"
    save_file(tensors | {name: damage(tensors[name].clone()).contiguous()}, tmp_path / "x.safetensors")
    with pytest.raises(RunError, match=f"1 tensors read back differently .* the first is '{name}'") as error:
        check_shard(tmp_path / "x.safetensors", tensors)
    assert "check the disk" in str(error.value)
