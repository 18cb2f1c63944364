"""A merged model is base plus adapter, or it is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import few_steps
import numpy as np
import peft
import pytest
import tiny
import torch
from conversations import make_rows
from oracles import compare, load_adapted, log_probs_of, merge
from safetensors.torch import load_file, save_file
from torch import nn

from baihua.compress.merge import merge_adapters
from baihua.core.errors import InputError, RunError
from baihua.data.rows import write_rows
from baihua.model.adapter import check_order
from baihua.model.compare import Parity, check_parity
from baihua.model.load import load_model
from baihua.model.merge import Written, merge_into, open_adapted
from baihua.modelfiles.folder import fingerprint
from baihua.stages import merge as stage


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("merge") / "base")


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = few_steps.prepare("lora", base, rank=4)
    few_steps.take_steps(model)
    jinja = (base / "chat_template.jinja").read_text()
    return few_steps.save("lora", model, tmp_path_factory.mktemp("adapter"), base=base, jinja=jinja)


def foreign(base: Path, folder: Path, **settings: Any) -> Path:
    """An adapter that peft itself made, random; it does not name its base."""
    wanted = {"target_modules": ["q_proj", "down_proj"]} | settings
    adapted = peft.PeftModel(load_model(base), peft.LoraConfig(task_type=peft.TaskType.CAUSAL_LM, r=4, **wanted))
    disturb(adapted)
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


def disturb(model: nn.Module) -> None:
    """Move every trained number, as training would."""
    rng = torch.Generator().manual_seed(1)
    for parameter in few_steps.trained(model).values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=rng)


def own(base: Path, folder: Path, name: str = "lora", **settings: Any) -> Path:
    """An adapter of one of our methods, random."""
    model = few_steps.prepare(name, base, **settings)
    disturb(model)
    return few_steps.save(name, model, folder, base=base)


def add_token(folder: Path) -> None:
    file = folder / "tokenizer.json"
    settings = json.loads(file.read_text())
    settings["added_tokens"].append(settings["added_tokens"][0] | {"id": 512, "content": "新"})
    file.write_text(json.dumps(settings))


def copy_of(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.mark.parametrize("with_data", [True, False])
def test_the_stage_merges_and_its_figures_say_so(base: Path, adapter: Path, tmp_path: Path, with_data: bool) -> None:
    write_rows(make_rows(60), tmp_path / "data")
    inputs = {"model": base, "adapter": adapter} | ({"data": tmp_path / "data"} if with_data else {})
    figures = run(tmp_path / "out", **inputs)
    assert figures["mean_kl"] < 1e-6
    assert figures["same_top_share"] == 1.0
    assert 0 < figures["max_abs_logit_difference"] < 1e-3
    texts = [[1, 5, 9, 300]]
    parity = compare(log_probs_of(load_model(base)), log_probs_of(load_model(tmp_path / "out")), texts)
    assert parity.mean_kl > 1e-4, "the adapter changed something"


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", {}),
    "dora": ("lora", {"use_dora": True}),
    "rslora-rows": ("lora", {"use_rslora": True, "first_new_token": few_steps.FIRST_NEW}),
    "rows": ("embeddings", {}),
    "whole": ("", {"modules_to_save": ["embed_tokens", "lm_head", "norm"]}),
    "embeddings": ("", {"target_modules": ["embed_tokens", "lm_head"], "use_dora": True}),
    "biases": ("", {"bias": "all"}),
}
CASES = [(family, is_tied) for family in few_steps.FAMILIES for is_tied in (True, False)]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{'tied' if case[1] else 'untied'}")
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name, is_tied = request.param
    return few_steps.make_family(tmp_path_factory.mktemp(name) / "base", name, is_tied=is_tied)


@pytest.mark.parametrize("kind", KINDS)
def test_layer_by_layer_gives_what_peft_gives_for_the_whole_model(family: Path, kind: str, tmp_path: Path) -> None:
    name, settings = KINDS[kind]
    make = own if name else foreign
    adapter = make(family, tmp_path / "adapter", *filter(None, [name]), **settings)
    merge_into(tmp_path / "out", family, adapter, jinja=None)
    found, apart = load_model(tmp_path / "out"), load_adapted(family, adapter)
    assert torch.equal(few_steps.logits_of(open_adapted(family, adapter)), few_steps.logits_of(apart))
    torch.testing.assert_close(few_steps.logits_of(found), few_steps.logits_of(apart), rtol=0, atol=2e-4)
    # Where the two halves of a tied pair part, peft's own merge changes both (and warns of "complications").
    if json.loads((family / "config.json").read_text())["tie_word_embeddings"] == found.config.tie_word_embeddings:
        wanted = merge(family, adapter).state_dict()
        assert [key for key, tensor in found.state_dict().items() if not torch.equal(tensor, wanted[key])] == []
    else:
        assert kind in ("whole", "embeddings")


@pytest.mark.parametrize(("dtype", "digits"), [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_weights_are_rounded_only_once_and_config_says_to_what(
    base: Path, adapter: Path, tmp_path: Path, dtype: Written, digits: float
) -> None:
    merge_into(tmp_path / "out", base, adapter, dtype=dtype, jinja=None)
    exact, found = merge(base, adapter).state_dict(), load_file(tmp_path / "out" / "model.safetensors")
    assert {str(tensor.dtype) for tensor in found.values()} == {f"torch.{dtype}"}
    assert all(((found[name].float() - exact[name]).abs() <= digits * exact[name].abs() + 1e-7).all() for name in found)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == dtype


def test_a_base_in_16_bits_stays_so(tmp_path: Path) -> None:
    base = few_steps.make_family(tmp_path / "base", "llama", is_tied=False, dtype=torch.bfloat16)
    adapter = own(base, tmp_path / "adapter")
    figures = run(tmp_path / "out", model=base, adapter=adapter)
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.bfloat16}
    assert 1e-8 < figures["mean_kl"] < 1e-4, "rounding costs something, and not much"


def run(out: Path, **inputs: Path) -> dict[str, Any]:
    out.mkdir()
    return stage.run(stage.Config(), inputs, out)


@pytest.fixture(scope="module")
def stack(base: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A second and a third adapter, each trained on what the stage makes of those before."""
    folder = tmp_path_factory.mktemp("stack")
    run(folder / "first", model=base, adapter=adapter)
    second = own(folder / "first", folder / "a2", "embeddings")
    run(folder / "both", model=folder / "first", adapter=second)
    third = own(folder / "both", folder / "a3", use_dora=True)
    return {"adapter": adapter, "adapter_2": second, "adapter_3": third, "both": folder / "both"}


def test_adapters_are_stacked_in_order_as_if_merged_one_by_one(
    base: Path, stack: dict[str, Path], tmp_path: Path
) -> None:
    roles = ("adapter", "adapter_2", "adapter_3")
    figures = run(tmp_path / "out", model=base, **{role: stack[role] for role in roles})
    assert figures["num_adapters"] == 3
    assert figures["mean_kl"] < 1e-6
    run(tmp_path / "alone", model=stack["both"], adapter=stack["adapter_3"])
    assert fingerprint(tmp_path / "out") == fingerprint(tmp_path / "alone")
    assert [file.name for file in sorted((tmp_path / "out").iterdir())] == [
        *("chat_template.jinja", "config.json", "generation_config.json"),
        *("model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    ]


def test_a_wrong_order_is_refused_and_the_right_one_named(base: Path, stack: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"in the wrong order: .*; `adapter_2` was trained on it") as error:
        run(tmp_path / "out", model=base, adapter=stack["adapter_2"], adapter_2=stack["adapter"])
    assert "give what is now `adapter_2` as `adapter`" in error.value.fix
    with pytest.raises(InputError, match=r"wrong order: .* the base given is 'merged-with-adapter' .*`adapter_3` was"):
        run(
            tmp_path / "out2",
            **{"model": base, "adapter": stack["adapter"]},
            **{"adapter_2": stack["adapter_3"], "adapter_3": stack["adapter_2"]},
        )
    assert [*(tmp_path / "out").iterdir(), *(tmp_path / "out2").iterdir()] == []
    with pytest.raises(InputError, match="the adapter was trained on 'first' with fingerprint"):
        check_order(base, {"adapter": stack["adapter_2"]})


def test_the_vocabulary_of_a_later_adapter_is_checked_before_any_work(
    base: Path, stack: dict[str, Path], tmp_path: Path
) -> None:
    copy = copy_of(stack["adapter_2"], tmp_path)
    add_token(copy)
    with pytest.raises(InputError, match="the base has 512 tokens, the adapter was trained with 513") as error:
        check_order(base, {"adapter": stack["adapter"], "adapter_2": copy})
    assert error.value.where == str(copy)


def test_what_a_killed_run_left_is_not_taken_for_a_result(base: Path, adapter: Path, tmp_path: Path) -> None:
    left = tmp_path / "out" / "scratch" / "merged-with-adapter"
    left.mkdir(parents=True)
    (left / "shard-00007.safetensors").write_bytes(b"half")
    stage.run(stage.Config(), {"model": base, "adapter": adapter}, tmp_path / "out")
    assert not (tmp_path / "out" / "scratch").exists()
    assert [file.name for file in (tmp_path / "out").glob("*.safetensors")] == ["model.safetensors"]


def test_the_result_stops_where_its_template_ends_a_turn(base: Path, adapter: Path, tmp_path: Path) -> None:
    run(tmp_path / "out", model=base, adapter=adapter)
    settings = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    assert settings["eos_token_id"] == [ids["<|im_end|>"]]


def change_adapter(adapter: Path, name: str, change: Any) -> None:
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    key = next(key for key in sorted(tensors) if name in key)
    save_file(tensors | {key: change(tensors[key])}, file, metadata={"format": "pt"})


def test_numbers_that_are_none_are_refused_with_whose_they_are(base: Path, adapter: Path, tmp_path: Path) -> None:
    broken = copy_of(adapter, tmp_path)
    change_adapter(broken, "k_proj.lora_B", lambda tensor: tensor.fill_(torch.inf))
    with pytest.raises(InputError, match=r"'model\.layers\.0\.self_attn\.k_proj\.weight' of the merged model") as error:
        run(tmp_path / "out", model=base, adapter=broken)
    assert "the adapter is damaged" in str(error.value)
    assert list((tmp_path / "out").iterdir()) == []
    bad_base = copy_of(base, tmp_path / "base")
    tensors = load_file(bad_base / "model.safetensors")
    tensors["model.norm.weight"][3] = torch.nan
    save_file(tensors, bad_base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"'model\.norm\.weight' of the base has NaN or infinite values"):
        merge_into(tmp_path / "out2", bad_base, adapter, jinja=None)


def test_numbers_too_large_for_float16_are_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    large = copy_of(adapter, tmp_path)
    change_adapter(large, "k_proj.lora_B", lambda tensor: tensor * 1e7)
    with pytest.raises(InputError, match=r"k_proj\.weight' has numbers too large for float16"):
        merge_into(tmp_path / "out", base, large, dtype="float16", jinja=None)


def test_pickled_weights_are_never_read(base: Path, adapter: Path, tmp_path: Path) -> None:
    copy = copy_of(adapter, tmp_path)
    file = copy / "adapter_model.safetensors"
    torch.save(load_file(file), copy / "adapter_model.bin")
    file.unlink()
    with pytest.raises(InputError, match=r"adapter_model\.bin is pickled, which is never read") as error:
        run(tmp_path / "out", model=base, adapter=copy)
    assert "convert it to safetensors" in str(error.value)
    (copy / "adapter_model.bin").unlink()
    with pytest.raises(InputError, match=r"the adapter has no adapter_model\.safetensors\n"):
        load_adapted(base, copy)


def test_tensors_without_a_place_are_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    copy = copy_of(adapter, tmp_path)
    file = copy / "adapter_model.safetensors"
    name = "base_model.model.model.layers.2.mlp.up_proj.lora_A.weight"
    save_file(load_file(file) | {name: torch.zeros(4, 64)}, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=rf"has 1 tensors that the model does not have, the first is '{name}'"):
        merge_into(tmp_path / "out", base, copy, jinja=None)


@pytest.mark.parametrize(
    "settings", [{"init_lora_weights": "pissa"}, {"peft_type": "IA3", "feedforward_modules": []}], ids=str
)
def test_what_changes_the_base_or_adds_no_matrix_is_refused(
    base: Path, adapter: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    copy = copy_of(adapter, tmp_path)
    file = copy / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    with pytest.raises(InputError, match=r"an adapter of kind \w+.*, started with .*, cannot be merged"):
        open_adapted(base, copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not valid JSON"), ('{"peft_type": "MAGIC"}', "adapter's config: KeyError")],
)
def test_an_unreadable_adapter_is_named(base: Path, adapter: Path, tmp_path: Path, text: str, message: str) -> None:
    copy = copy_of(adapter, tmp_path)
    (copy / "adapter_config.json").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        open_adapted(base, copy)
    assert error.value.where == str(copy / "adapter_config.json")


def test_a_merge_that_predicts_differently_is_refused_and_removed(base: Path, tmp_path: Path) -> None:
    adapter = own(base, tmp_path / "adapter", rank=4, alpha=4000.0)
    (tmp_path / "out").mkdir()
    with pytest.raises(RunError, match="the merged model differs from base and adapter: mean KL"):
        # Rounding to bfloat16 moves a random model far less than the real limit allows.
        merge_adapters(
            base, {"adapter": adapter}, tmp_path / "out", conversations=[], dtype="bfloat16", max_mean_kl=1e-12
        )
    assert list((tmp_path / "out").iterdir()) == []


def test_code_that_comes_with_a_base_is_not_passed_on(base: Path, tmp_path: Path) -> None:
    copy = copy_of(base, tmp_path)
    file = copy / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}))
    (copy / "evil.py").write_text("raise SystemExit('code was run')")
    run(tmp_path / "out", model=copy, adapter=own(copy, tmp_path / "adapter"))
    assert "auto_map" not in json.loads((tmp_path / "out" / "config.json").read_text())
    assert not (tmp_path / "out" / "evil.py").exists()


def test_another_base_of_the_same_size_is_refused(adapter: Path, tmp_path: Path) -> None:
    other = tiny.make(tmp_path / "other", seed=1)
    with pytest.raises(InputError, match=r"trained on 'base' with fingerprint .*the base given is 'other'"):
        merge(other, adapter)


def test_another_vocabulary_is_refused_with_both_sizes(base: Path, adapter: Path, tmp_path: Path) -> None:
    copy = copy_of(base, tmp_path)
    add_token(copy)
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
    assert "does not name its base by fingerprint" in caplog.text


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


def test_of_rounded_weights_only_the_divergence_counts() -> None:
    check_parity(Parity(9e-4, 0.95, 0.0, 9), what="merged", is_rounded=True)
    with pytest.raises(RunError, match=r"mean KL 1\.00e-03 \(must be below 1e-03\), .* at 95\.00% of 9 positions\n"):
        check_parity(Parity(1e-3, 0.95, 0.0, 9), what="merged", is_rounded=True)


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(RunError, match="cannot be compared without a text"):
        compare(lambda ids: np.zeros((1, 1)), lambda ids: np.zeros((1, 1)), [])
