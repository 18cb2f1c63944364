"""Model folders: exact round trips, and one clear sentence for each way a folder can be wrong."""

import json
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from baihua.chat.render import Template
from baihua.chat.template import end_of_turn, open_template
from baihua.core.errors import InputError
from baihua.model.load import load_model, save_model
from baihua.modelfiles.folder import fingerprint

CONTROLS = frozenset(tiny.CONTROLS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.make(tmp_path / "tiny")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_saved_model_comes_back_bit_by_bit(folder: Path, tmp_path: Path, dtype) -> None:
    model = load_model(folder, dtype=dtype)
    save_model(model, tmp_path / "copy", tokenizer_from=folder, jinja=None)
    wanted, found = model.state_dict(), load_model(tmp_path / "copy", dtype=dtype).state_dict()
    assert {weight.dtype for weight in found.values()} == {getattr(torch, dtype)}
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_a_new_template_replaces_the_old_one_everywhere(folder: Path, tmp_path: Path) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": "old"}))
    jinja = open_template("alpaca", folder)[1].jinja
    save_model(load_model(folder), tmp_path / "copy", tokenizer_from=folder, jinja=jinja)
    assert (tmp_path / "copy" / "chat_template.jinja").read_text() == jinja
    assert "chat_template" not in json.loads((tmp_path / "copy" / "tokenizer_config.json").read_text())


def test_generation_stops_where_the_template_ends_a_turn(folder: Path, tmp_path: Path) -> None:
    jinja = "{% for m in messages %}{{ m['content'] + '<|endoftext|>' }}{% endfor %}"
    save_model(load_model(folder), tmp_path / "copy", tokenizer_from=folder, jinja=jinja)
    settings = json.loads((tmp_path / "copy" / "generation_config.json").read_text())
    assert settings["eos_token_id"] == [0, 2]


def test_a_model_without_a_template_stops_at_its_end_of_sequence(folder: Path, tmp_path: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    save_model(load_model(folder), tmp_path / "copy", tokenizer_from=folder, jinja=None)
    assert json.loads((tmp_path / "copy" / "generation_config.json").read_text())["eos_token_id"] == [2]


def test_a_template_that_never_ends_an_answer_is_refused_when_new_and_only_warned_of_when_old(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jinja = "{{ messages[1]['content'] }}"
    with pytest.raises(InputError, match="would never stop"):
        save_model(load_model(folder), tmp_path / "new", tokenizer_from=folder, jinja=jinja)
    (folder / "chat_template.jinja").write_text(jinja)
    save_model(load_model(folder), tmp_path / "old", tokenizer_from=folder, jinja=None)
    assert "the model's own chat template cannot be used" in caplog.text


def test_the_end_of_a_turn_is_the_control_after_the_answer(folder: Path) -> None:
    assert end_of_turn(open_template("chatml", folder)[1]) == "<|im_end|>"
    with pytest.raises(InputError, match="leaves out the assistant's answers"):
        end_of_turn(Template("x", "{{ messages[0]['content'] }}", CONTROLS))


def test_the_fingerprint_follows_weights_and_vocabulary_only(folder: Path, tmp_path: Path) -> None:
    before = fingerprint(folder)
    (folder / "chat_template.jinja").write_text("other")
    assert fingerprint(folder) == before == fingerprint(tiny.make(tmp_path / "same"))
    assert fingerprint(tiny.make(tmp_path / "other", seed=1)) != before
    (folder / "tokenizer.json").write_text("{}")
    assert fingerprint(folder) != before


def test_an_adapter_is_not_a_model(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="this is an adapter, expected a whole model") as error:
        load_model(folder)
    assert "merge it into its base model first" in str(error.value)


def test_a_folder_without_config_is_named(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"it has no config\.json"):
        load_model(folder)


def test_pickled_weights_are_not_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"no \.safetensors weights, only pytorch_model\.bin: a pickle"):
        load_model(folder)


def test_a_truncated_weight_file_is_named(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="the weight file is damaged or incomplete") as error:
        load_model(folder)
    assert "model.safetensors" in str(error.value)


@pytest.mark.parametrize("replacement", [{}, {"model.norm.weight": torch.ones(3)}])
def test_a_missing_or_misshapen_tensor_is_named(folder: Path, replacement: dict[str, torch.Tensor]) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.norm.weight"]
    save_file(tensors | replacement, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 tensors are missing or of another shape, the first is 'model\.norm"):
        load_model(folder)


def test_an_unknown_kind_of_model_is_refused_without_running_its_code(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoConfig": "evil.Config"}}')
    (folder / "evil.py").write_text("raise SystemExit('code of the model folder ran')")
    with pytest.raises(InputError, match="cannot load this model"):
        load_model(folder)
