"""A two-layer random model whose rows fit blocks of 256, which those of the tiny one do not."""

import shutil
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from baihua.compress.export import write_gguf

SIZES = {
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}


def make(folder: Path, tiny_folder: Path) -> Path:
    """The model as a folder, with the tiny model's words; sure of itself, so that a wrong conversion shows."""
    shutil.copytree(tiny_folder, folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**SIZES, bos_token_id=1, eos_token_id=2, pad_token_id=0))
    for parameter in model.parameters():
        parameter.data *= 3 if parameter.ndim == 2 else 1
    model.save_pretrained(folder)
    return folder


def make_gguf(folder: Path, tiny_folder: Path) -> Path:
    """The same as an f16 GGUF file."""
    file = folder / "model-f16.gguf"
    write_gguf(make(folder, tiny_folder), file, level="f16")
    return file
