"""A tiny model that always answers the same: every token names the next one."""

import itertools
import json
from pathlib import Path

import tiny
import torch
from safetensors.torch import load_file, save_file

from baihua.chat.render import encode, render
from baihua.chat.template import OWN, open_template
from baihua.chat.types import Message


def make(folder: Path, answer: str, *, is_endless: bool = False) -> Path:
    """A folder whose model answers `answer`, whose tokens must all differ, and stops or repeats it forever."""
    tiny.make(folder)
    tokenizer, template = open_template(OWN, folder)
    prompt = encode(render([Message("user", "?")], template, for_answer=True), tokenizer).ids
    ids = tokenizer.encode(answer)
    chain = [prompt[-1], *ids, ids[0] if is_endless else tokenizer.controls["<|im_end|>"]]
    assert len(set(chain[:-1])) == len(chain) - 1, "a token cannot name two successors"
    weights = load_file(folder / "model.safetensors")
    for name in weights:
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weights[name].zero_()
    embedding = weights["model.embed_tokens.weight"]
    head = torch.zeros_like(embedding)
    for previous, following in itertools.pairwise(chain):
        head[following] += 100 * embedding[previous]
    save_file(weights | {"lm_head.weight": head}, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}), encoding="utf-8")
    return folder
