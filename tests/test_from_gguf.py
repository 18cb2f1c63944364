"""A GGUF file becomes a Hugging Face folder with the same numbers and the same tokens."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, GGUFWriter
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from baihua.backends.gguf_tokenizer import GgufTokenizer
from baihua.backends.llama_cpp import open_scorer
from baihua.chat.tokenizer import FolderTokenizer
from baihua.compress.gguf import write_gguf
from baihua.core.errors import InputError
from baihua.model.from_gguf import convert
from mixed_text import lines


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


def copy_gguf(source: Path, out: Path, *, without: str = "", **changes: Any) -> None:
    """The same file with other metadata (dots written as __) or without one tensor."""
    reader = GGUFReader(source)
    writer = GGUFWriter(out, "llama")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in (
            "general.architecture",
            *(c.replace("__", ".") for c in changes),
        ):
            item = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], item)
    for name, value in changes.items():
        writer.add_string(name.replace("__", "."), value)
    for tensor in reader.tensors:
        if tensor.name != without:
            writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer__ggml__pre": "dolphin"}, r"tokenizer\.ggml\.pre\) is 'dolphin', known are gpt-2, llama-bpe"),
        ({"tokenizer__ggml__model": "llama"}, r"tokenizer is of the kind 'llama', expected 'gpt2'"),
        ({"llama__rope__scaling__type": "linear"}, r"stretches its positions \(rope scaling 'linear'"),
        (
            {"without": "blk.1.ffn_up.weight"},
            r"1 tensors of the model are missing, the first is 'model\.layers\.1\.mlp",
        ),
    ],
)
def test_what_cannot_be_read_exactly_is_refused(
    changes: dict[str, str], message: str, tiny_gguf: Path, tmp_path: Path
) -> None:
    copy_gguf(tiny_gguf, tmp_path / "m.gguf", **changes)
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "m.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_stretched_positions_with_factors_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rope = {"rope_theta": 1e4, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config["rope_parameters"] = rope | {"original_max_position_embeddings": 64}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_gguf(folder, tmp_path / "m.gguf", level="f16")
    with pytest.raises(InputError, match="rope factors: True"):
        convert(tmp_path / "m.gguf", tmp_path / "out")


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
