"""An adapter that llama.cpp adds while it answers predicts what the merged model predicts."""

import json
from pathlib import Path
from typing import Any

import few_steps
import numpy as np
import peft
import pytest
import torch

from baihua.backends.llama_cpp.chat import LlamaCppChat, open_chat
from baihua.chat.types import Guidance, Likelihood, Sampling
from baihua.compress.adapter import write_adapter
from baihua.compress.export import write_gguf
from baihua.core.artifact import hash_file
from baihua.core.errors import InputError
from baihua.model.load import load_model
from baihua.stages import gguf_adapter

IDS = [5, 9, 300, 41, 7, 120]
ALL = {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]}


def adapt(base: Path, folder: Path, **settings: Any) -> Path:
    """A random adapter as PEFT saves it, and the base merged with it beside it."""
    torch.manual_seed(1)
    wanted = {"r": 4, "lora_alpha": 7} | settings
    adapted = peft.PeftModel(load_model(base), peft.LoraConfig(task_type=peft.TaskType.CAUSAL_LM, **wanted))
    rng = torch.Generator().manual_seed(1)
    for parameter in few_steps.trained(adapted).values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=rng)
    adapted.save_pretrained(str(folder / "adapter"), save_embedding_layers=False)
    merged = adapted.merge_and_unload()
    merged.save_pretrained(folder / "merged")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / "merged" / name).write_bytes((base / name).read_bytes())
    return folder / "adapter"


def likely(chat: LlamaCppChat, adapter: str | None = None) -> dict[str, float]:
    """The likeliest next tokens with their log-probabilities."""
    guidance = Guidance(num_top_logprobs=20, adapter=adapter)
    found: list[Likelihood] = []
    chat.run(IDS, Sampling(max_tokens=1, temperature=0), guidance, lambda piece: found.extend(piece.likelihoods))
    return {top.token_bytes.hex(): top.log_prob for top in found[0].top}


def assert_same(found: dict[str, float], wanted: dict[str, float]) -> None:
    shared = sorted(found.keys() & wanted.keys())
    assert len(shared) >= 18
    np.testing.assert_allclose([found[one] for one in shared], [wanted[one] for one in shared], atol=2e-4)


@pytest.mark.parametrize(
    "settings",
    [
        ALL,
        ALL | {"use_rslora": True},
        {"target_modules": ["q_proj", "down_proj"], "alpha_pattern": {"down_proj": 3}, "rank_pattern": {"q_proj": 2}},
    ],
    ids=["all", "rslora", "patterns"],
)
def test_adding_is_merging(settings: dict[str, Any], tiny_folder: Path, tmp_path: Path) -> None:
    adapter = adapt(tiny_folder, tmp_path, **settings)
    write_gguf(tiny_folder, tmp_path / "base.gguf", level="f32")
    write_gguf(tmp_path / "merged", tmp_path / "merged.gguf", level="f32")
    (tmp_path / "out").mkdir()
    inputs = {"adapter": adapter, "model": tmp_path / "base.gguf"}
    figures = gguf_adapter.run(gguf_adapter.Config(), inputs, tmp_path / "out")
    assert figures["num_matrices"] == len(settings["target_modules"]) * 2
    merged = open_chat(tmp_path / "merged.gguf", num_threads=1)
    plain = open_chat(tmp_path / "base.gguf", num_threads=1)
    both = open_chat(tmp_path / "base.gguf", num_threads=1, adapters={"poet": tmp_path / "out" / "adapter.gguf"})
    assert_same(likely(both, "poet"), likely(merged))
    assert_same(likely(both), likely(plain))
    without = likely(both)
    assert max(abs(value - without.get(one, 0.0)) for one, value in likely(merged).items()) > 0.005
    with pytest.raises(InputError, match=r"unknown adapter 'poe'.*\n.*\n.*poet"):
        likely(both, "poe")
    for chat in (merged, plain, both):
        chat.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_dora": True, "target_modules": ["q_proj"]}, "norms of the base's own columns"),
        ({"modules_to_save": ["embed_tokens"], "target_modules": ["q_proj"]}, "whole rows or modules"),
        ({"bias": "all", "target_modules": ["q_proj"]}, "trained biases"),
        ({"target_modules": ["embed_tokens"]}, "it contains .base_model.model.model.embed_tokens."),
    ],
)
def test_what_llama_cpp_cannot_add_is_refused(
    settings: dict[str, Any], message: str, tiny_folder: Path, tmp_path: Path
) -> None:
    config = peft.LoraConfig(task_type=peft.TaskType.CAUSAL_LM, **settings)
    peft.PeftModel(load_model(tiny_folder), config).save_pretrained(str(tmp_path / "adapter"))
    with pytest.raises(InputError, match=message) as caught:
        write_adapter(tmp_path / "adapter", tiny_folder, tmp_path / "adapter.gguf")
    assert "baihua do merge" in caught.value.fix
    assert not (tmp_path / "adapter.gguf").exists()


def test_rows_of_new_tokens_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    model = few_steps.prepare("embeddings", tiny_folder)
    adapter = few_steps.save("embeddings", model, tmp_path / "adapter", base=tiny_folder)
    with pytest.raises(InputError, match="rows of new tokens are not a LoRA"):
        write_adapter(adapter, tiny_folder, tmp_path / "adapter.gguf")


def test_an_adapter_of_another_shape_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    adapter = adapt(tiny_folder, tmp_path, target_modules=["q_proj"])
    other = tmp_path / "other.gguf"
    wide = tmp_path / "wide"
    model = load_model(tiny_folder)
    settings = json.loads((tiny_folder / "config.json").read_text())
    settings |= {"hidden_size": 2 * settings["hidden_size"], "head_dim": None}
    type(model)(type(model.config)(**settings)).save_pretrained(wide)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (wide / name).write_bytes((tiny_folder / name).read_bytes())
    write_gguf(wide, other, level="f16")
    with pytest.raises(InputError, match=r"its matrix for 'model.layers.0.self_attn.q_proj' has the shape"):
        write_adapter(adapter, other, tmp_path / "adapter.gguf")


def test_a_matrix_that_the_base_does_not_have_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    adapter = adapt(tiny_folder, tmp_path, target_modules=["lm_head"])
    with pytest.raises(InputError, match="it changes 'lm_head'"):
        write_adapter(adapter, tiny_folder, tmp_path / "adapter.gguf")


def test_the_stage_writes_what_its_version_writes(tiny_folder: Path, tmp_path: Path) -> None:
    """When this fails and the change is meant: raise VERSION and put the new pair down."""
    model = few_steps.prepare("lora", tiny_folder, rank=2)
    for number, parameter in enumerate(few_steps.trained(model).values()):
        torch.nn.init.constant_(parameter, 0.001 * number)
    adapter = few_steps.save("lora", model, tmp_path / "adapter", base=tiny_folder)
    (tmp_path / "out").mkdir()
    gguf_adapter.run(gguf_adapter.Config(), {"adapter": adapter, "model": tiny_folder}, tmp_path / "out")
    assert (gguf_adapter.VERSION, hash_file(tmp_path / "out" / "adapter.gguf")[:16]) == (1, "bb340d973acb93af")
