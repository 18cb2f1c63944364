"""A GGUF file becomes a Hugging Face folder with the same numbers and the same tokens."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_pieces
import torch
from gguf import GGUFReader, GGUFWriter, quants
from gguf.constants import GGMLQuantizationType
from mixed_text import lines
from safetensors.torch import load_file, save_file
from sentence_pieces import NUM_PIECES, added
from sentencepiece import SentencePieceProcessor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from baihua.backends.llama_cpp.scorer import open_scorer
from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
from baihua.chat.tokenizer import FolderTokenizer
from baihua.compress.export import write_gguf
from baihua.core.errors import InputError
from baihua.model.from_gguf import convert
from baihua.modelfiles.gguf_header import read_model_header
from baihua.modelfiles.rope import KNOWN
from baihua.modelfiles.tokenizers.from_gguf import tokenizer_files
from baihua.stages import import_model


@pytest.mark.parametrize(("level", "dtype"), [("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16)])
def test_there_and_back_gives_the_same_weights(
    level: str, dtype: torch.dtype, tiny_folder: Path, tmp_path: Path
) -> None:
    write_gguf(tiny_folder, tmp_path / "m.gguf", level=level)
    convert(tmp_path / "m.gguf", tmp_path / "back")
    wanted, found = load_file(tiny_folder / "model.safetensors"), load_file(tmp_path / "back" / "model.safetensors")
    assert wanted.keys() == found.keys()
    assert {weights.dtype for weights in found.values()} == {dtype}
    assert all(torch.equal(wanted[name].to(dtype), found[name]) for name in wanted)


def test_there_and_back_gives_the_same_tokenizer_and_template(
    tiny_folder: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    convert(tiny_gguf, tmp_path)
    wanted, found = FolderTokenizer(tiny_folder), FolderTokenizer(tmp_path)
    assert (found.controls, found.bos_id, found.eos_token) == (wanted.controls, wanted.bos_id, wanted.eos_token)
    assert [found.encode(line) for line in lines(300)] == [wanted.encode(line) for line in lines(300)]
    assert (tmp_path / "chat_template.jinja").read_bytes() == (tiny_folder / "chat_template.jinja").read_bytes()
    assert AutoTokenizer.from_pretrained(tmp_path).encode("你好 12") == wanted.encode("你好 12")


def copy_gguf(
    source: Path,
    out: Path,
    changes: dict[str, Any] | None = None,
    *,
    without: str = "",
    more: str = "",
    quantizes: str = "",
) -> None:
    """The same file with other metadata (None: without it), without one tensor, with one more, or one in Q8_0."""
    reader = GGUFReader(source)
    writer = GGUFWriter(out, "llama")
    changes = changes or {}
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", *changes):
            item = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], item)
    add = {str: writer.add_string, int: writer.add_uint32, list: writer.add_array}
    for name, value in changes.items():
        if value is not None:
            add[type(value)](name, value)
    for tensor in reader.tensors:
        if tensor.name == quantizes:
            packed = quants.quantize(np.array(tensor.data), GGMLQuantizationType.Q8_0)
            writer.add_tensor(tensor.name, packed, raw_dtype=GGMLQuantizationType.Q8_0)
        elif tensor.name != without:
            writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    if more:
        writer.add_tensor(more, np.ones(64, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("is_tied", [True, False])
def test_each_family_comes_back_as_it_was(family: str, is_tied: bool, tiny_folder: Path, tmp_path: Path) -> None:
    folder = family_folder(family, tiny_folder, tmp_path / "model", tie_word_embeddings=is_tied)
    write_gguf(folder, tmp_path / "m.gguf", level="f32")
    convert(tmp_path / "m.gguf", tmp_path / "back", max_shard_bytes=100_000)
    assert (tmp_path / "back" / "model.safetensors.index.json").is_file()
    wanted, found = (AutoModelForCausalLM.from_pretrained(path) for path in (folder, tmp_path / "back"))
    assert type(found) is type(wanted)
    ids = torch.tensor([[3 + i * 37 % 500 for i in range(100)]])
    with torch.no_grad():
        assert torch.equal(wanted(ids).logits, found(ids).logits)


def family_folder(family: str, tiny_folder: Path, out: Path, **changes: Any) -> Path:
    """A random model of a family with the tiny tokenizer; biases and norms are random too."""
    shutil.copytree(tiny_folder, out)
    (out / "model.safetensors").unlink()
    sizes = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    own = {
        "llama": {"attention_bias": True, "mlp_bias": True},
        "qwen2": {},
        "qwen3": {"head_dim": 32, "rms_norm_eps": 1e-6},
    }
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = AutoConfig.for_model(family, **sizes, **heads, **own[family], **ids, **changes)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.normal_()
    model.save_pretrained(out)
    return out


ROPES = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama 3.1": KNOWN[0],
    "llama 3.2": KNOWN[1],
}


@pytest.mark.parametrize("name", ROPES)
def test_stretched_positions_come_back(name: str, tiny_folder: Path, tmp_path: Path) -> None:
    folder = stretched(tiny_folder, tmp_path / "model", **ROPES[name])
    write_gguf(folder, tmp_path / "m.gguf", level="f16")
    convert(tmp_path / "m.gguf", tmp_path / "back")
    config = json.loads((tmp_path / "back" / "config.json").read_text(encoding="utf-8"))
    assert config["rope_parameters"] == {"rope_theta": 500_000.0, **ROPES[name]}


def stretched(tiny_folder: Path, out: Path, **rope: Any) -> Path:
    shutil.copytree(tiny_folder, out)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    # Small heads have few waves; with this base some of them are longer than Llama 3's first context.
    config["rope_parameters"] = {"rope_theta": 500_000.0, **rope}
    (out / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return out


def test_quantized_weights_are_multiplied_out(tiny_folder: Path, tmp_path: Path) -> None:
    write_gguf(tiny_folder, tmp_path / "m.gguf", level="f32")
    copy_gguf(tmp_path / "m.gguf", tmp_path / "q8.gguf", quantizes="blk.0.ffn_up.weight")
    convert(tmp_path / "q8.gguf", tmp_path / "back")
    wanted, found = load_file(tiny_folder / "model.safetensors"), load_file(tmp_path / "back" / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    packed = quants.quantize(wanted[name].numpy(), GGMLQuantizationType.Q8_0)
    assert np.array_equal(found[name].numpy(), quants.dequantize(packed, GGMLQuantizationType.Q8_0))
    assert found[name].dtype == torch.float32


SPECIAL_KINDS = {
    r"tokenizer\.ggml\.pre\) is 'dolphin', known are gpt-2, llama-bpe": {"tokenizer.ggml.pre": "dolphin"},
    r"tokenizer is of the kind 'bert', expected 'gpt2' .* or 'llama'": {"tokenizer.ggml.model": "bert"},
    "a SentencePiece tokenizer without scores": {"tokenizer.ggml.model": "llama"},
    "a byte-level tokenizer without merges": {"tokenizer.ggml.merges": None},
    "does not list its tokens with a type for each": {"tokenizer.ggml.token_type": None},
    r"scales its positions \(rope scaling 'yarn', rope factors: False\)(?s:.*)Hugging Face folder": {
        "llama.rope.scaling.type": "yarn"
    },
    r"llama\.rope\.dimension_count is 8, expected the 16 numbers": {"llama.rope.dimension_count": 8},
    r"llama\.attention\.value_length is 8, expected the 16 numbers": {"llama.attention.value_length": 8},
}


@pytest.mark.parametrize("message", SPECIAL_KINDS)
def test_what_cannot_be_read_exactly_is_refused(message: str, tiny_gguf: Path, tmp_path: Path) -> None:
    copy_gguf(tiny_gguf, tmp_path / "m.gguf", SPECIAL_KINDS[message])
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "m.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


TENSORS = {
    r"1 tensors of the model are missing, the first is 'blk\.1\.ffn": {"without": "blk.1.ffn_up.weight"},
    r"1 tensors of the model are missing, the first is 'token_embd": {"without": "token_embd.weight"},
    r"tensor 'blk\.0\.lora' is not part of a model of type 'llama'(?s:.*)import the model from": {"more": "blk.0.lora"},
    r"tensor 'blk\.7\.attn_q\.weight' is not part of": {"more": "blk.7.attn_q.weight"},
    r"7 tensors of the model are missing, the first is 'blk\.0\.attn_k\.bias'": {"more": "blk.0.attn_q.bias"},
}


@pytest.mark.parametrize("message", TENSORS)
def test_a_tensor_too_many_or_too_few_is_named(message: str, tiny_gguf: Path, tmp_path: Path) -> None:
    copy_gguf(tiny_gguf, tmp_path / "m.gguf", **TENSORS[message])
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "m.gguf", tmp_path / "out")


def test_an_embedding_of_another_size_than_the_vocabulary_is_refused(tiny_gguf: Path, tmp_path: Path) -> None:
    tokens = [f"t{i}" for i in range(500)]
    copy_gguf(tiny_gguf, tmp_path / "m.gguf", {"tokenizer.ggml.tokens": tokens})
    with pytest.raises(
        InputError, match=r"embedding has 512 rows, its vocabulary 500 tokens(?s:.*)download or convert"
    ):
        convert(tmp_path / "m.gguf", tmp_path / "out")


def test_unknown_rope_factors_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    folder = stretched(tiny_folder, tmp_path / "model", **KNOWN[0] | {"original_max_position_embeddings": 64})
    write_gguf(folder, tmp_path / "m.gguf", level="f16")
    with pytest.raises(InputError, match=r"rope factors: True\) in a way(?s:.*)known are 'linear' and the factors of"):
        convert(tmp_path / "m.gguf", tmp_path / "out")


# The tokenizer


def test_rows_without_a_token_stay_without_one(tiny_folder: Path, tmp_path: Path) -> None:
    folder = family_folder("llama", tiny_folder, tmp_path / "model", tie_word_embeddings=False)
    weights = load_file(folder / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = torch.cat([weights[name], weights[name][:8]])
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 520}), encoding="utf-8")
    write_gguf(folder, tmp_path / "m.gguf", level="f16")
    convert(tmp_path / "m.gguf", tmp_path / "back")
    assert FolderTokenizer(tmp_path / "back").num_tokens == 512
    assert load_file(tmp_path / "back" / "model.safetensors")["model.embed_tokens.weight"].shape[0] == 520


@pytest.mark.parametrize("alias", ["llama3", "llama-v3"])
def test_a_pre_tokenizer_by_another_name_is_the_same(alias: str, tiny_gguf: Path, tmp_path: Path) -> None:
    copy_gguf(tiny_gguf, tmp_path / "m.gguf", {"tokenizer.ggml.pre": alias, "tokenizer.ggml.add_bos_token": None})
    convert(tmp_path / "m.gguf", tmp_path / "back")
    ours, theirs = FolderTokenizer(tmp_path / "back"), GgufTokenizer(tmp_path / "m.gguf")
    assert [ours.encode(line) for line in lines(300)] == [theirs.encode(line) for line in lines(300)]
    assert ours.bos_id == theirs.bos_id == 1
    assert AutoTokenizer.from_pretrained(tmp_path / "back").encode("你好") == [1, *ours.encode("你好")]


def test_a_token_that_is_no_text_is_refused(tiny_gguf: Path, tmp_path: Path) -> None:
    header = read_model_header(tiny_gguf)
    tokens = header.values["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    broken = replace(header, values=header.values | {"tokenizer.ggml.tokens": [*tokens[:-1], "\udce4"]})
    with pytest.raises(InputError, match=r"token with id 511 is not UTF-8 text(?s:.*)Hugging Face folder"):
        tokenizer_files(broken, tmp_path)


def test_several_ends_come_back(tiny_gguf: Path, tmp_path: Path) -> None:
    copy_gguf(tiny_gguf, tmp_path / "m.gguf", {"tokenizer.ggml.eot_token_id": 0, "tokenizer.ggml.eom_token_id": 5})
    convert(tmp_path / "m.gguf", tmp_path / "back")
    settings = json.loads((tmp_path / "back" / "generation_config.json").read_text(encoding="utf-8"))
    assert settings["eos_token_id"] == [2, 0, 5]


def test_a_sentence_piece_model_is_imported_with_llama_cpps_ids(tiny_folder: Path, tmp_path: Path) -> None:
    more = added("白话文", NUM_PIECES), added("<|中文|>", NUM_PIECES + 1, special=True)
    folder = sentence_pieces.make_folder(tiny_folder, tmp_path / "model", *more, keeps_model=True)
    write_gguf(folder, tmp_path / "m.gguf", level="f16")
    (tmp_path / "back").mkdir()
    import_model.run(import_model.Config(source=str(tmp_path / "m.gguf")), {}, tmp_path / "back")
    ours, theirs = FolderTokenizer(tmp_path / "back"), GgufTokenizer(tmp_path / "m.gguf")
    transformers = AutoTokenizer.from_pretrained(tmp_path / "back")
    for line in [*lines(300), "a白话文b<|中文|> 白话文"]:
        assert ours.encode(line) == theirs.encode(line), line
        assert transformers(line, add_special_tokens=False, split_special_tokens=True)["input_ids"] == ours.encode(line)
    assert [ours.token_bytes(i) for i in range(ours.num_tokens)] == [
        theirs.token_bytes(i) for i in range(ours.num_tokens)
    ]
    assert ours.bos_id == theirs.bos_id == 1
    model = SentencePieceProcessor(model_file=str(tmp_path / "back" / "tokenizer.model"))
    assert model.get_piece_size() == NUM_PIECES
    assert [model.encode(line) for line in lines(300)] == [theirs.encode(line) for line in lines(300)]


def test_a_piece_that_tokenizer_json_cannot_spell_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    folder = sentence_pieces.make_folder(tiny_folder, tmp_path / "model")
    write_gguf(folder, tmp_path / "m.gguf", level="f16")
    header = read_model_header(tmp_path / "m.gguf")
    tokens = header.values["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    spoilt = ["鲸" if token == "l" else token for token in tokens]
    broken = replace(header, values=header.values | {"tokenizer.ggml.tokens": spoilt})
    with pytest.raises(
        InputError, match=r"pieces contain a character that is not a piece itself, the first is '.*l.*'"
    ):
        tokenizer_files(broken, tmp_path)


@pytest.mark.shared
def test_llama_2s_tokenizer_has_llama_cpps_ids(tmp_path: Path) -> None:
    file = Path(__file__).parents[3] / "shared/data/tokenizers/llama_spm_vocab.gguf"
    if not file.is_file():
        pytest.skip("the real data is not beside the project (../shared/data)")
    for name, content in tokenizer_files(read_model_header(file), file).items():
        (tmp_path / name).write_bytes(content)
    ours, theirs = FolderTokenizer(tmp_path), GgufTokenizer(file)
    texts = file.with_name(f"{file.name}.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    wanted = file.with_name(f"{file.name}.out").read_text(encoding="utf-8").splitlines()
    assert [ours.encode(text) for text in texts[:-1]] == [[int(id_) for id_ in line.split()] for line in wanted]
    model = SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    runs = [char * count for char in " =-\n哈" for count in range(1, 40)]
    for line in [*lines(500), *runs, *(f"a{run}b" for run in runs)]:
        assert ours.encode(line) == theirs.encode(line) == model.encode(line), line


@pytest.mark.smollm2
def test_smollm2_keeps_its_numbers_and_tokens(smollm2_gguf: Path, tmp_path: Path) -> None:
    convert(smollm2_gguf, tmp_path)
    write_gguf(tmp_path, tmp_path / "f16.gguf", level="f16")
    folder, ours, theirs = FolderTokenizer(tmp_path), GgufTokenizer(tmp_path / "f16.gguf"), GgufTokenizer(smollm2_gguf)
    for line in lines(300):
        assert folder.encode(line) == ours.encode(line) == theirs.encode(line), line
    ids = folder.encode("".join(lines(8)))[:128]
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.no_grad():
        wanted = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1).numpy()
    scorer = open_scorer(tmp_path / "f16.gguf", 1)
    found = scorer.log_probs(ids)
    scorer.close()
    assert (np.exp(wanted) * (wanted - found)).sum(axis=1).mean() < 1e-4
