"""Model folders become GGUF files, and broken GGUF files are refused before any C code sees them."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
from gguf import GGUFReader
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed_text import lines
from safetensors.torch import load_file, save_file
from sentence_pieces import train
from transformers import LlamaForCausalLM

from baihua.backends.llama_cpp.scorer import open_scorer
from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
from baihua.compress.export import write_gguf, write_levels
from baihua.core.errors import InputError, RunError
from baihua.modelfiles.gguf_header import read_header, read_model_header
from baihua.modelfiles.tokenizers.pretokenizer import DEFINITIONS, build, name_of

IDS = [3 + i * 37 % 500 for i in range(300)]


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A tiny model that a test may change."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def change(file: Path, **values: Any) -> None:
    """Set keys of a JSON file."""
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content | values), encoding="utf-8")


def kl_to_gguf(folder: Path, level: str) -> float:
    """Mean KL divergence in nats of llama.cpp on a level from transformers in float32."""
    write_levels(folder, folder, [level])
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        wanted = torch.log_softmax(model(torch.tensor([IDS])).logits[0].double(), -1).numpy()
    scorer = open_scorer(folder / f"model-{level}.gguf", 1)
    found = scorer.log_probs(IDS)
    scorer.close()
    return float((np.exp(wanted) * (wanted - found)).sum(axis=1).mean())


def sharpen(folder: Path, factor: float = 20.0) -> None:
    """Make the random model sure of itself, so that a wrong conversion shows."""
    weights = load_file(folder / "model.safetensors")
    save_file(
        {k: v * factor if v.ndim == 2 else v for k, v in weights.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )


@pytest.mark.parametrize(("level", "limit"), [("f32", 1e-6), ("f16", 1e-4), ("bf16", 1e-2), ("q8_0", 1e-2)])
def test_llama_cpp_computes_what_transformers_computes(level: str, limit: float, folder: Path) -> None:
    sharpen(folder, 5.0)
    assert abs(kl_to_gguf(folder, level)) < limit


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "factor": 4.0},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ],
)
def test_stretched_positions_are_converted(rope: dict[str, Any], folder: Path) -> None:
    sharpen(folder, 5.0)
    change(folder / "config.json", rope_parameters={"rope_theta": 10000.0} | rope)
    assert abs(kl_to_gguf(folder, "f32")) < 1e-5


def test_shards_give_the_same_file_as_one(folder: Path, tiny_gguf: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="200KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    write_gguf(folder, folder / "sharded.gguf", level="f32")
    wanted = {tensor.name: tensor.data for tensor in GGUFReader(tiny_gguf).tensors}
    found = {tensor.name: tensor.data for tensor in GGUFReader(folder / "sharded.gguf").tensors}
    assert wanted.keys() == found.keys()
    assert all(np.array_equal(wanted[name], found[name]) for name in wanted)


def test_a_second_end_token_ends_answers_too(folder: Path) -> None:
    change(folder / "generation_config.json", eos_token_id=[2, 0])
    write_gguf(folder, folder / "m.gguf", level="f16")
    assert GgufTokenizer(folder / "m.gguf").end_ids() == [0, 2]


def test_rows_without_a_token_are_filled(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    rows = weights["model.embed_tokens.weight"]
    weights["model.embed_tokens.weight"] = torch.cat([rows, rows[:8]])
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    change(folder / "config.json", vocab_size=520)
    write_gguf(folder, folder / "m.gguf", level="f16")
    tokenizer = GgufTokenizer(folder / "m.gguf")
    assert tokenizer.num_tokens == 520
    assert 519 not in tokenizer.encode("[PAD519]")


# SentencePiece


@pytest.fixture
def spm_folder(folder: Path) -> Path:
    train(folder)
    (folder / "tokenizer.json").unlink()
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    return folder


def test_sentence_piece_ids_are_those_of_llama_cpp(spm_folder: Path) -> None:
    write_gguf(spm_folder, spm_folder / "m.gguf", level="f16")
    ours = GgufTokenizer(spm_folder / "m.gguf")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(spm_folder / "tokenizer.model"))
    for line in lines(300, seed=1):
        assert ours.encode(line) == theirs.encode(line), line
    assert ours.bos_id == 1
    assert {"<s>", "</s>"} <= ours.controls.keys()


def test_a_unigram_model_is_refused(spm_folder: Path) -> None:
    train(spm_folder, "unigram")
    with pytest.raises(InputError, match="SentencePiece's kind 'unigram'"):
        write_gguf(spm_folder, spm_folder / "m.gguf", level="f16")


def test_two_tokenizers_that_differ_are_refused(spm_folder: Path) -> None:
    other = {"model": {"type": "BPE", "byte_fallback": True, "vocab": {"a": 0}}, "added_tokens": []}
    (spm_folder / "tokenizer.json").write_text(json.dumps(other), encoding="utf-8")
    with pytest.raises(InputError, match=r"tokenizer\.json \(1 pieces\) and tokenizer\.model \(\d+\) are different"):
        write_gguf(spm_folder, spm_folder / "m.gguf", level="f16")


# What cannot be converted


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _only_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _cut_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _edit_weights(**edits: Any) -> Any:
    def edit(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        for name, value in edits.items():
            weights.pop(name.replace("__", "."), None) if value is None else weights.update(
                {name.replace("__", "."): value}
            )
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    return edit


def _become_mistral(folder: Path) -> None:
    change(folder / "config.json", model_type="mistral", architectures=["MistralForCausalLM"])
    _edit_weights(model__layers__0__self_attn__q_proj__bias=torch.ones(64))(folder)


REFUSALS = {
    "not a model folder: it has no config.json": _no_config,
    r"type 'llama' with architectures \['QwenForCausalLM'\]; known are llama \(LlamaForCausalLM\), mistral": lambda f: (
        change(f / "config.json", architectures=["QwenForCausalLM"])
    ),
    "rope_type 'yarn' cannot be converted": lambda f: change(f / "config.json", rope_parameters={"rope_type": "yarn"}),
    "no tokenizer that can be converted": _no_tokenizer,
    r"no \.safetensors weights, only pytorch_model\.bin: a pickle file can run any code": _only_pickle,
    "the weight file is damaged or incomplete": _cut_weights,
    "tensor 'lora' is not part of a model of type 'llama'": _edit_weights(lora=torch.ones(2, 2)),
    "tensor 'x' has the type I8": _edit_weights(x=torch.ones(2, 2, dtype=torch.int8)),
    r"1 tensors of the model are missing, the first is 'output_norm\.weight'": _edit_weights(model__norm__weight=None),
    r"'token_embd\.weight' has the shape \[64, 512\], expected \[64, 500\] by the config": lambda f: change(
        f / "config.json", vocab_size=500
    ),
    "tensor 'blk.0.attn_q.bias' is not part of a model of type 'mistral'": lambda f: _become_mistral(f),
    "not valid JSON": lambda f: (f / "config.json").write_text("{", encoding="utf-8"),
    r"not one that llama\.cpp is known to match: null": lambda f: change(f / "tokenizer.json", pre_tokenizer=None),
    "splits texts like 'smollm' but has(.|\n)*NFC": lambda f: change(f / "tokenizer.json", normalizer={"type": "NFC"}),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_what_cannot_be_converted_is_refused_and_leaves_nothing(message: str, folder: Path, tmp_path: Path) -> None:
    REFUSALS[message](folder)
    with pytest.raises(InputError, match=message):
        write_gguf(folder, tmp_path / "m.gguf", level="f16")
    assert not list(tmp_path.glob("m.gguf*"))


@pytest.mark.parametrize(
    ("value", "message"), [(float("nan"), "NaN or infinite values"), (1e5, "beyond float16's 65,504")]
)
def test_weights_that_do_not_fit_are_refused(value: float, message: str, folder: Path) -> None:
    _edit_weights(model__layers__0__mlp__up_proj__weight=torch.full((160, 64), value))(folder)
    with pytest.raises(RunError, match=message):
        write_gguf(folder, folder / "m.gguf", level="f16")


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_pre_tokenizer_is_known_by_its_definition(name: str) -> None:
    definition = json.loads(build(name, Path("x")).__getstate__())
    tokenizer = {"pre_tokenizer": definition, "model": {"ignore_merges": name == "llama-bpe"}}
    assert name_of(tokenizer, Path("x")) == name


# Broken GGUF files


def header_of(**values: tuple[int, bytes]) -> bytes:
    pairs = b"".join(struct.pack("<Q", len(k)) + k.encode() + struct.pack("<I", t) + v for k, (t, v) in values.items())
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(values)) + pairs


def tensor_of(shape: list[int], kind: int) -> bytes:
    info = struct.pack("<Q1sI", 1, b"t", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
    return b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + info + struct.pack("<IQ", kind, 0)


BROKEN = {
    "not a GGUF file: it begins with b'PK": b"PK\x03\x04",
    "not a GGUF file: it begins with b''": b"",
    "GGUF version 1 is not supported": b"GGUF" + struct.pack("<IQQ", 1, 0, 0),
    "the header needs 16 bytes, the file has 12": b"GGUF" + struct.pack("<IQ", 3, 0)[:8],
    "value type 99 is unknown": header_of(a=(99, b"")),
    "the alignment is 3, expected a power of two": header_of(**{"general.alignment": (4, struct.pack("<I", 3))}),
    "has 9 dimensions": tensor_of([1] * 9, 0),
    "unknown type number 77": tensor_of([4], 77),
    r"has the shape \[31\], its type needs multiples of 32": tensor_of([31], 8),
    "tensor 't' ends at byte 4,.*, the file at": tensor_of([1024], 0),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_header_is_refused(message: str, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(BROKEN[message])
    with pytest.raises(InputError, match=message):
        read_header(tmp_path / "m.gguf")


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    text = struct.pack("<Q", 5) + b"mamba"
    (tmp_path / "m.gguf").write_bytes(header_of(**{"general.architecture": (8, text)}))
    with pytest.raises(InputError, match="architecture is 'mamba', expected one of llama"):
        read_model_header(tmp_path / "m.gguf")
    text = struct.pack("<Q", 5) + b"llama"
    (tmp_path / "m.gguf").write_bytes(header_of(**{"general.architecture": (8, text)}))
    with pytest.raises(InputError, match=r"gives None for llama\.block_count"):
        read_model_header(tmp_path / "m.gguf")
    with pytest.raises(InputError, match="no such model file"):
        read_model_header(tmp_path / "absent.gguf")


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(
    share: float, tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = tiny_gguf.read_bytes()
    file = tmp_path_factory.mktemp("cut") / "m.gguf"
    file.write_bytes(data[: int(share * (len(data) - 32))])
    with pytest.raises(InputError):
        open_scorer(file, 1)


def test_the_header_is_what_the_reader_of_gguf_finds(tiny_gguf: Path) -> None:
    header, reader = read_header(tiny_gguf), GGUFReader(tiny_gguf)
    assert {t.name: (list(t.shape), t.num_bytes) for t in header.tensors} == {
        t.name: ([int(n) for n in t.shape], t.n_bytes) for t in reader.tensors
    }
    assert header.values == {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}
