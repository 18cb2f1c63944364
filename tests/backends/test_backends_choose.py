import json
from pathlib import Path

import pytest

from baihua.backends import choose
from baihua.backends.replay import ReplayChat
from baihua.core.errors import InputError


def test_a_jsonl_file_is_a_script(tmp_path: Path) -> None:
    file = tmp_path / "script.jsonl"
    file.write_text(json.dumps({"ask": None, "answer": "好"}), encoding="utf-8")
    assert isinstance(choose.open_chat(str(file)), ReplayChat)


def test_a_folder_goes_to_transformers(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="this is an adapter"):
        choose.open_chat(str(tmp_path))
    with pytest.raises(InputError, match="this is an adapter"):
        choose.open_scorer(tmp_path)


def test_an_address_goes_to_http() -> None:
    with pytest.raises(InputError, match="invalid server address"):
        choose.open_chat("http://")


def test_a_model_name_needs_an_address(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--model small needs the address of a server"):
        choose.open_chat(str(tmp_path), at_address="small")


def test_a_model_of_an_address_is_chosen_by_its_name() -> None:
    assert choose.open_chat("http://127.0.0.1:9", at_address="small").name == "small"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("missing.gguf", "no such file or folder"),
        ("", "a folder without config.json"),
        ("notes.txt", r"another kind \(.txt\)"),
    ],
)
def test_anything_else_is_refused_and_named(tmp_path: Path, name: str, found: str) -> None:
    (tmp_path / "notes.txt").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=f"(?s)not a chat model: .*{found}.*a .gguf file, a model folder"):
        choose.open_chat(str(tmp_path / name))
    with pytest.raises(InputError, match=f"(?s)not a model that gives log-probabilities: .*{found}"):
        choose.open_scorer(tmp_path / name)


def test_a_gguf_file_goes_to_llama_cpp(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"not a GGUF file")
    for open_it in (lambda: choose.open_chat(str(file)), lambda: choose.open_scorer(file)):
        with pytest.raises(InputError, match=r"(?s)where: .*model\.gguf"):
            open_it()
