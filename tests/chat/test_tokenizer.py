"""The tokenizer of a model folder: control tokens are never read from plain text."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from baihua.chat.template import OWN, load_template
from baihua.chat.tokenizer import FolderTokenizer, begins_with_token
from baihua.core.errors import InputError

PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.fixture(scope="module")
def ours(tiny_folder: Path) -> FolderTokenizer:
    return FolderTokenizer(tiny_folder)


@pytest.fixture(scope="module")
def theirs(tiny_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_folder)


@given(text=PLAIN)
def test_ids_are_those_of_transformers(ours: FolderTokenizer, theirs: Any, text: str) -> None:
    wanted = theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert ours.encode(text) == wanted


@given(text=PLAIN)
def test_decoding_gives_the_text_back_token_by_token(ours: FolderTokenizer, text: str) -> None:
    ids = ours.encode(text)
    assert b"".join(map(ours.token_bytes, ids)) == text.encode()
    assert ours.decode(ids) == text


def test_the_name_of_a_control_token_is_letters_in_text(ours: FolderTokenizer) -> None:
    for name, number in ours.controls.items():
        assert number not in ours.encode(f"a{name}b")
        assert ours.decode(ours.encode(name)) == name


def test_controls_and_unknown_ids_have_no_text(ours: FolderTokenizer) -> None:
    assert [ours.token_bytes(number) for number in (*ours.controls.values(), 99_999)] == [b""] * 4


def test_facts_agree_with_transformers(ours: FolderTokenizer, theirs: Any) -> None:
    assert ours.num_tokens == len(theirs)
    assert (ours.bos_token, ours.eos_token, ours.bos_id) == (theirs.bos_token, theirs.eos_token, None)
    assert set(ours.controls.values()) == set(theirs.all_special_ids)


def changed(folder: Path, to: Path, **settings: Any) -> FolderTokenizer:
    shutil.copytree(folder, to)
    file = to / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | settings), encoding="utf-8")
    return FolderTokenizer(to)


def test_a_begin_token_is_added_only_where_the_settings_require_it(tiny_folder: Path, tmp_path: Path) -> None:
    assert changed(tiny_folder, tmp_path / "a", add_bos_token=True).bos_id == 1


def test_a_special_token_may_be_written_as_an_object(tiny_folder: Path, tmp_path: Path) -> None:
    tokenizer = changed(tiny_folder, tmp_path / "a", eos_token={"content": "</s>"}, bos_token=None)
    assert (tokenizer.eos_token, tokenizer.bos_token) == ("</s>", "")


def test_sentencepiece_style_pieces_give_bytes(tiny_folder: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models

    shutil.copytree(tiny_folder, tmp_path / "a")
    tokenizer = Tokenizer(
        models.BPE({"<unk>": 0, "<0xE4>": 1, "\u2581好": 2}, [], unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.save(str(tmp_path / "a" / "tokenizer.json"))
    found = FolderTokenizer(tmp_path / "a")
    assert [found.token_bytes(1), found.token_bytes(2)] == [b"\xe4", " 好".encode()]


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"no tokenizer\.json in the model folder\n.*\n  fix:   import the model again"
    ):
        FolderTokenizer(tmp_path)


def test_a_template_is_the_models_own_or_one_of_ours(tiny_folder: Path, ours: FolderTokenizer) -> None:
    own = load_template(OWN, tiny_folder, ours)
    assert own.jinja == load_template("chatml", tiny_folder, ours).jinja
    assert own.controls == frozenset(ours.controls)


def test_a_folder_without_a_template_is_refused_with_the_names_to_give(tmp_path: Path, ours: FolderTokenizer) -> None:
    with pytest.raises(InputError, match=r"has no chat_template\.jinja\n.*\n  fix:   name a .*`template: chatml`"):
        load_template(OWN, tmp_path, ours)


def test_tokenizer_json_decides_what_begins_a_text_where_the_settings_do_not() -> None:
    begin = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    template = {"type": "TemplateProcessing", "single": begin}
    assert begins_with_token({"post_processor": template}, {})
    assert begins_with_token({"post_processor": {"type": "Sequence", "processors": [template]}}, {})
    assert not begins_with_token({"post_processor": template}, {"add_bos_token": False})
    assert not begins_with_token({"post_processor": None}, {})
    assert begins_with_token({}, {})
