"""A method at work on tiny models: a few real steps in plain torch, without the training loop."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from baihua.core import kinds
from baihua.modelfiles.folder import TOKENIZER_FILES, Precision

PACKAGE = "baihua.train.methods"
NAMES = kinds.names(PACKAGE)
CPU = torch.device("cpu")
FIRST_NEW = 480
# What a recipe must say, for methods that cannot do without.
NEEDED: dict[str, dict[str, Any]] = {"embeddings": {"first_new_token": FIRST_NEW}}
QUANTIZED = ("int8", "qlora")
HAS_BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None
# Old and new tokens; every new one is somewhere.
IDS = torch.randperm(512, generator=torch.Generator().manual_seed(0)).view(4, 128)
FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


def open_method(name: str) -> ModuleType:
    """A method's module; skips the test where what the method needs is not installed."""
    if name in QUANTIZED and not HAS_BITSANDBYTES:
        pytest.skip("bitsandbytes is not installed: pip install 'baihua[gpu]'")
    return kinds.find(PACKAGE, name)


def prepare(name: str, base: Path, precision: Precision = "float32", **settings: Any) -> nn.Module:
    """A base as a method makes it ready, with seeded new weights."""
    method = open_method(name)
    torch.manual_seed(0)
    model = method.load(base, precision=precision, device=CPU)
    return method.prepare(model, config_of(name, **settings))


def config_of(name: str, **settings: Any) -> Any:
    """A method's config, with what it cannot do without."""
    return open_method(name).Config(**(NEEDED.get(name, {}) | settings))


def loss_of(model: nn.Module, precision: Precision = "float32") -> torch.Tensor:
    """Cross entropy of every token of `IDS`."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        return model(input_ids=IDS, labels=IDS, use_cache=False).loss


def take_steps(model: nn.Module, num_steps: int = 3, precision: Precision = "float32") -> None:
    """Real updates of what is trainable."""
    model.train()
    optimizer = torch.optim.AdamW(trained(model).values(), lr=1e-2, weight_decay=0.0)
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss_of(model, precision).backward()
        optimizer.step()


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def frozen(model: nn.Module) -> dict[str, torch.Tensor]:
    """Everything else that a model holds: parameters, buffers, and what bitsandbytes keeps beside its weights."""
    places = {parameter.data_ptr() for parameter in trained(model).values()}
    tensors = dict(model.named_buffers()) | model.state_dict()
    return {name: tensor for name, tensor in tensors.items() if tensor.data_ptr() not in places}


def copies(tensors: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The same tensors, apart from the model."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    """Gradients of the trained parameters, made anew."""
    model.train()
    model.zero_grad()
    loss_of(model).backward()
    return {name: parameter.grad.clone() for name, parameter in trained(model).items() if parameter.grad is not None}


def logits_of(model: nn.Module) -> torch.Tensor:
    """The logits of `IDS`, without dropout."""
    with torch.inference_mode():
        return model.eval()(input_ids=IDS, use_cache=False).logits


def save(name: str, model: nn.Module, out: Path, *, base: Path, jinja: str | None = None) -> Path:
    """Save as the stage does, from tensors that are whole and on the CPU."""
    jinja = (base / "chat_template.jinja").read_text() if jinja is None else jinja
    open_method(name).save(model, out, base=base, jinja=jinja, state=copies(dict(trained(model))))
    return out


def make_family(
    folder: Path, family: str, *, is_tied: bool, dtype: torch.dtype = torch.float32, intermediate_size: int = 160
) -> Path:
    """A tiny random model of a family, with the tokenizer of the tiny model."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = {
        "vocab_size": tiny.NUM_TOKENS,
        "hidden_size": 64,
        "intermediate_size": intermediate_size,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "tie_word_embeddings": is_tied,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings), dtype=dtype)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter)
    source = tiny.make(folder.with_name(f"{folder.name}-tokenizer"))
    model.save_pretrained(folder, max_shard_size="300KB")
    for name in (*TOKENIZER_FILES, "tokenizer_config.json", "chat_template.jinja"):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    return folder
