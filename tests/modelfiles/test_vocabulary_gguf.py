"""A model folder's tokenizer in a GGUF file: llama.cpp finds the same ids, or the tokenizer is refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentence_pieces
from mixed_text import lines
from sentence_pieces import NUM_PIECES, added

from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
from baihua.chat.tokenizer import FolderTokenizer, adds_bos
from baihua.compress.export import write_gguf
from baihua.core.errors import InputError
from baihua.modelfiles.tokenizers.pretokenizer import DEFINITIONS
from baihua.modelfiles.tokenizers.to_gguf import read_vocabulary

WORD, CONTROL = added("白话文", NUM_PIECES), added("<|中文|>", NUM_PIECES + 1, special=True)
LATER = added("<|结束|>", NUM_PIECES + 2, special=True)
LINES = [*lines(300, seed=1), "a白话文b 白话文 c", "<|中文|>白话文<|结束|>", "=" * 37, "a" + " " * 41 + "b"]
METASPACE = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": False}


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return sentence_pieces.make_folder(tiny_folder, tmp_path / "model", WORD, CONTROL, LATER)


@pytest.fixture
def byte_folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def edit(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def theirs(folder: Path) -> GgufTokenizer:
    write_gguf(folder, folder / "m.gguf", level="f16")
    return GgufTokenizer(folder / "m.gguf")


def check_ids(folder: Path, texts: list[str]) -> GgufTokenizer:
    ours, llama_cpp = FolderTokenizer(folder), theirs(folder)
    for text in texts:
        assert ours.encode(text) == llama_cpp.encode(text), text
    return llama_cpp


def test_pieces_of_a_tokenizer_json_alone_have_llama_cpps_ids(folder: Path) -> None:
    llama_cpp = check_ids(folder, LINES)
    assert llama_cpp.bos_id == 1
    assert {"<s>", "</s>", "<|中文|>", "<|结束|>"} == set(llama_cpp.controls)
    assert NUM_PIECES in llama_cpp.encode("a白话文b")


def test_both_files_give_what_tokenizer_json_gives(tiny_folder: Path, folder: Path, tmp_path: Path) -> None:
    both = sentence_pieces.make_folder(tiny_folder, tmp_path / "both", WORD, CONTROL, LATER, keeps_model=True)
    assert read_vocabulary(both, 512, adds_bos=True) == read_vocabulary(folder, 512, adds_bos=True)


def test_a_tokenizer_model_alone_takes_its_added_tokens_from_the_settings(tiny_folder: Path, tmp_path: Path) -> None:
    both = sentence_pieces.make_folder(tiny_folder, tmp_path / "model", WORD, CONTROL, keeps_model=True)
    (both / "tokenizer.json").unlink()
    described = {str(token["id"]): token for token in (WORD, CONTROL)}
    edit(both / "tokenizer_config.json", lambda settings: settings.update(added_tokens_decoder=described))
    llama_cpp = theirs(both)
    assert "<|中文|>" in llama_cpp.controls
    assert NUM_PIECES in llama_cpp.encode("a白话文b")


@pytest.mark.parametrize(("scheme", "adds_space"), [("always", True), ("never", False)])
def test_the_form_that_transformers_saves_agrees_but_for_a_space_in_front(
    scheme: str, adds_space: bool, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pre_tokenizer = METASPACE | {"prepend_scheme": scheme}
    edit(folder / "tokenizer.json", lambda content: content.update(normalizer=None, pre_tokenizer=pre_tokenizer))
    check_ids(folder, [line for line in LINES if line[0] not in " \u2581" and "白话文" not in line])
    assert read_vocabulary(folder, 512, adds_bos=True).adds_space == adds_space
    assert ("puts no space before a text that begins with one" in caplog.text) == adds_space


def test_texts_without_a_space_in_front_are_known(folder: Path) -> None:
    edit(folder / "tokenizer.json", lambda content: content["normalizer"]["normalizers"].pop(0))
    check_ids(folder, LINES)


def no_bytes(content: dict[str, Any]) -> None:
    vocab = content["model"]["vocab"]
    vocab["byte"] = vocab.pop("<0x41>")


def part_of(content: dict[str, Any]) -> None:
    content["model"]["merges"].append(content["model"]["merges"][0])


def leave_out(content: dict[str, Any]) -> None:
    content["model"]["merges"].pop()


def word(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["added_tokens"][-3].update(changes)

    return change


def control(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["added_tokens"][-2].update(content=name)


def first_space(content: dict[str, Any]) -> None:
    content.update(normalizer=None, pre_tokenizer=METASPACE | {"prepend_scheme": "first"})


SENTENCE_PIECE = {
    r"lacks 1 of the 256 pieces for single bytes, the first is <0x41>(?s:.*)fix:   use a tokenizer .*byte_fallback": (
        no_bytes
    ),
    r"not SentencePiece's(?s:.*)the pairs of '.+' are not consecutive": part_of,
    r"not SentencePiece's(?s:.*)the pair \(.+\) is missing(?s:.*)fix:   list every pair": leave_out,
    r"changes texts in a way that llama\.cpp does not: normalizer .*NFKC(?s:.*)fix:   use the model's original": (
        lambda content: content.update(normalizer={"type": "NFKC"})
    ),
    r"does not: normalizer None, pre_tokenizer .*'first'.*, with added words": first_space,
    r"token '白话文' has normalized=true, which llama\.cpp does not support(?s:.*)normalized=False": word(
        normalized=True
    ),
    "token '白话文' has lstrip=true": word(lstrip=True),
    "token '白话文' has rstrip=true": word(rstrip=True),
    "token '白话文' has single_word=true": word(single_word=True),
    "the token 'he' is not an ordinary one, but llama.cpp would make it": control("he"),
    r"the tokens \d+ and 481 have the same text 'l'(?s:.*)fix:   rename": control("l"),
}


@pytest.mark.parametrize("message", SENTENCE_PIECE)
def test_what_llama_cpp_would_cut_otherwise_is_refused(message: str, folder: Path) -> None:
    edit(folder / "tokenizer.json", SENTENCE_PIECE[message])
    with pytest.raises(InputError, match=message):
        read_vocabulary(folder, 512, adds_bos=True)


def test_added_words_that_overlap_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    words = added("白话", NUM_PIECES), added("话本", NUM_PIECES + 1)
    folder = sentence_pieces.make_folder(tiny_folder, tmp_path / "model", *words)
    with pytest.raises(
        InputError, match=r"the end of the added token '白话' is the beginning of '话本'(?s:.*)remove one"
    ):
        read_vocabulary(folder, 512, adds_bos=True)


def test_a_tokenizer_with_more_tokens_than_the_model_has_rows_is_refused(byte_folder: Path) -> None:
    edit(byte_folder / "tokenizer.json", lambda tokenizer: tokenizer["added_tokens"].append(added("白话", 512)))
    with pytest.raises(InputError, match="a token with id 512, the model's embedding has 512 rows"):
        theirs(byte_folder)


def test_an_unknown_kind_of_tokenizer_is_refused(folder: Path) -> None:
    edit(folder / "tokenizer.json", lambda content: content["model"].update(type="Unigram"))
    with pytest.raises(InputError, match=r"no tokenizer that can be converted(?s:.*)found another tokenizer\.json"):
        read_vocabulary(folder, 512, adds_bos=True)


# Byte-level BPE


def add_tokens(folder: Path, *more: dict[str, Any]) -> None:
    """Give the last ids of the vocabulary to added tokens."""

    def change(content: dict[str, Any]) -> None:
        vocab = content["model"]["vocab"]
        gone = {text for text, token_id in vocab.items() if token_id >= 512 - len(more)}
        content["model"]["vocab"] = {text: token_id for text, token_id in vocab.items() if text not in gone}
        merges = content["model"]["merges"]
        content["model"]["merges"] = [merge for merge in merges if not gone & {*merge, "".join(merge)}]
        content["added_tokens"] += [token | {"id": 512 - len(more) + i} for i, token in enumerate(more)]

    edit(folder / "tokenizer.json", change)


def test_added_words_and_controls_have_llama_cpps_ids_in_byte_level_bpe(byte_folder: Path) -> None:
    add_tokens(byte_folder, added("白话文", 0, normalized=True), added("<|中文|>", 0, special=True))
    llama_cpp = check_ids(byte_folder, LINES)
    assert llama_cpp.controls["<|中文|>"] == 511
    assert 510 in llama_cpp.encode("a白话文b")


def test_a_name_that_llama_cpp_takes_for_a_control_is_written_as_one(byte_folder: Path) -> None:
    add_tokens(byte_folder, added("<|fim_prefix|>", 0), added("<|message|>", 0, special=True))
    llama_cpp = theirs(byte_folder)
    assert 511 in llama_cpp.encode("<|message|>")
    assert llama_cpp.controls.get("<|fim_prefix|>") == 510
    assert "<|message|>" not in llama_cpp.controls


def test_a_word_that_is_composed_before_it_is_found_is_refused(byte_folder: Path) -> None:
    add_tokens(byte_folder, added("e\u0301", 0, normalized=True))
    edit(byte_folder / "tokenizer.json", lambda content: content.update(normalizer={"type": "NFC"}))
    pre_tokenizer = {"type": "Sequence", "pretokenizers": DEFINITIONS["qwen2"]}
    edit(byte_folder / "tokenizer.json", lambda content: content.update(pre_tokenizer=pre_tokenizer))
    with pytest.raises(InputError, match="has normalized=true"):
        read_vocabulary(byte_folder, 512, adds_bos=False)


def test_a_control_that_is_a_whole_word_is_refused_where_whole_words_are_looked_up(byte_folder: Path) -> None:
    add_tokens(byte_folder, added("stop", 0, special=True))
    pre_tokenizer = {"type": "Sequence", "pretokenizers": DEFINITIONS["llama-bpe"]}
    edit(byte_folder / "tokenizer.json", lambda content: content.update(pre_tokenizer=pre_tokenizer))
    edit(byte_folder / "tokenizer.json", lambda content: content["model"].update(ignore_merges=True))
    with pytest.raises(
        InputError, match=r"the token 'stop' is not an ordinary one(?s:.*)fix:   give it a name in brackets"
    ):
        read_vocabulary(byte_folder, 512, adds_bos=False)


# What begins and ends a text


@pytest.mark.parametrize("is_nested", [False, True])
def test_tokenizer_json_says_that_texts_begin_with_a_token_where_the_settings_do_not(
    is_nested: bool, byte_folder: Path
) -> None:
    begin = {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    special = {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}}
    step: dict[str, Any] = {
        "type": "TemplateProcessing",
        "single": [begin, text],
        "pair": [],
        "special_tokens": special,
    }
    if is_nested:
        step = {"type": "Sequence", "processors": [step]}
    edit(byte_folder / "tokenizer_config.json", lambda settings: settings.pop("add_bos_token"))
    assert not adds_bos(byte_folder)
    edit(byte_folder / "tokenizer.json", lambda content: content.update(post_processor=step))
    assert adds_bos(byte_folder)


def test_three_ends_are_named(byte_folder: Path) -> None:
    add_tokens(byte_folder, added("<|a|>", 0, special=True), added("<|b|>", 0, special=True))
    edit(byte_folder / "generation_config.json", lambda settings: settings.update(eos_token_id=[2, 510, 511, 0]))
    assert theirs(byte_folder).end_ids() == [0, 2, 510, 511]


def test_more_ends_than_a_file_can_name_are_refused(byte_folder: Path, tmp_path: Path) -> None:
    add_tokens(byte_folder, *(added(f"<|{name}|>", 0, special=True) for name in "abc"))
    edit(byte_folder / "generation_config.json", lambda settings: settings.update(eos_token_id=[2, 509, 510, 511]))
    with pytest.raises(
        InputError,
        match=r"besides the end of a text, 3 tokens end an answer(?s:.*)'<\|a\|>'(?s:.*)fix:   leave at most two",
    ):
        write_gguf(byte_folder, tmp_path / "m.gguf", level="f16")
