"""Special tokens of model folders and GGUF files."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from baihua.modelfiles.gguf_header import read_header
from baihua.modelfiles.special_tokens import end_texts, read_special_tokens, special_tokens_of


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def change(file: Path, **values: object) -> None:
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.write_text(json.dumps(found | values), encoding="utf-8")


def test_a_folder_and_its_file_have_the_same_special_tokens(tiny_folder: Path, tiny_gguf: Path) -> None:
    assert read_special_tokens(tiny_folder) == special_tokens_of(read_header(tiny_gguf))
    assert end_texts(tiny_folder) == end_texts(tiny_gguf) == ["<|im_end|>"]


def test_an_id_without_a_token_counts_as_none(tiny_gguf: Path) -> None:
    header = read_header(tiny_gguf)
    values = header.values | {"tokenizer.ggml.bos_token_id": 2**32 - 1, "tokenizer.ggml.eot_token_id": 512}
    found = special_tokens_of(replace(header, values=values))
    assert (found.bos, found.ends) == (None, (2,))


def test_answers_end_where_any_of_the_three_files_says(folder: Path) -> None:
    change(folder / "generation_config.json", eos_token_id=[2, 0])
    change(folder / "config.json", eos_token_id=1)
    assert read_special_tokens(folder).ends == (2, 0, 1)
    assert end_texts(folder) == ["<|im_end|>", "<|endoftext|>", "<|im_start|>"]


def test_ids_of_the_config_stand_in_for_missing_names(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    change(folder / "config.json", eos_token_id=[0, 1], pad_token_id=None)
    assert read_special_tokens(folder).by_name == {"bos": 1, "eos": 0}


def test_a_token_that_is_an_object_counts_by_its_content(folder: Path, tmp_path: Path) -> None:
    change(folder / "tokenizer_config.json", eos_token={"content": "<|endoftext|>"})
    assert read_special_tokens(folder).ends[0] == 0
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": {"content": "</s>"}}', encoding="utf-8")
    assert end_texts(tmp_path) == ["</s>"]
