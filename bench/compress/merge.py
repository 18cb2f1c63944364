"""Memory and time of merging a large model: random weights, a random adapter, the stage in a separate process.

Usage: python bench/compress/merge.py FOLDER [--shape 7b|tiny] [--dtype base|float32|bfloat16|float16]

Creates FOLDER/model and FOLDER/adapter if they are missing; FOLDER/merged is removed at the end. Prints the peak memory
of the process (VmHWM, mapped files included), seconds, and the figures of the stage, as one JSON object.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

MAX_SHARD_BYTES = 1_200_000_000
RANK = 16


class Shape(NamedTuple):
    """Widths and number of layers of a Llama with a separate output layer."""

    hidden: int
    mlp: int
    num_layers: int
    num_heads: int
    num_tokens: int


SHAPES = {
    # Llama 2 7B: https://arxiv.org/abs/2307.09288
    "7b": Shape(hidden=4096, mlp=11008, num_layers=32, num_heads=32, num_tokens=32000),
    "tiny": Shape(hidden=64, mlp=160, num_layers=2, num_heads=4, num_tokens=512),
}


def linears(shape: Shape) -> dict[str, tuple[int, int]]:
    """The linear layers of the decoder by name, each with its outputs and inputs."""
    attention = {f"self_attn.{name}_proj": (shape.hidden, shape.hidden) for name in "qkvo"}
    mlp = {"mlp.gate_proj": (shape.mlp, shape.hidden), "mlp.up_proj": (shape.mlp, shape.hidden)}
    layer = attention | mlp | {"mlp.down_proj": (shape.hidden, shape.mlp)}
    return {f"model.layers.{n}.{name}": size for n in range(shape.num_layers) for name, size in layer.items()}


def make_model(folder: Path, shape: str = "7b") -> Path:
    """Write a random bfloat16 Llama, one tensor in memory at a time but for the shard; returns the folder.

    Its tokenizer is the tiny model's, with 512 tokens: the other rows have no token.
    """
    import torch
    from transformers import LlamaConfig

    from baihua.model.load import save_chat_files
    from baihua.model.weights import ShardWriter

    sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))
    import tiny  # pyright: ignore[reportMissingImports]  (the tests' model)

    size = SHAPES[shape]
    rng = torch.Generator().manual_seed(0)
    writer = ShardWriter(folder, max_shard_bytes=MAX_SHARD_BYTES)

    def add(name: str, *dims: int) -> None:
        weight = torch.empty(dims).normal_(0, 0.02, generator=rng) if len(dims) > 1 else torch.ones(dims)
        writer.add(f"{name}.weight", weight.bfloat16())

    add("model.embed_tokens", size.num_tokens, size.hidden)
    for name, dims in linears(size).items():
        add(name, *dims)
    for number in range(size.num_layers):
        add(f"model.layers.{number}.input_layernorm", size.hidden)
        add(f"model.layers.{number}.post_attention_layernorm", size.hidden)
    add("model.norm", size.hidden)
    add("lm_head", size.num_tokens, size.hidden)
    writer.close()
    config = LlamaConfig(
        vocab_size=size.num_tokens,
        hidden_size=size.hidden,
        intermediate_size=size.mlp,
        num_hidden_layers=size.num_layers,
        num_attention_heads=size.num_heads,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
    )
    words = tiny.make(folder / "words")
    save_chat_files(folder, tokenizer_from=words, jinja=(words / "chat_template.jinja").read_text(encoding="utf-8"))
    shutil.rmtree(words)
    # Last: a folder with a config is whole.
    config.save_pretrained(folder)
    return folder


def make_adapter(folder: Path, model: Path, shape: str) -> Path:
    """Write a random LoRA adapter of a model, whose second matrices are not zero; returns the folder."""
    import peft
    import torch
    from safetensors.torch import save_file

    from baihua.modelfiles.folder import copy_tokenizer, fingerprint

    rng = torch.Generator().manual_seed(1)
    tensors: dict[str, torch.Tensor] = {}
    for name, (num_outputs, num_inputs) in linears(SHAPES[shape]).items():
        first = torch.empty(RANK, num_inputs).normal_(0, num_inputs**-0.5, generator=rng)
        tensors[f"base_model.model.{name}.lora_A.weight"] = first
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.empty(num_outputs, RANK).normal_(
            0, 0.01, generator=rng
        )
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    copy_tokenizer(model, folder, jinja=None)
    config = peft.LoraConfig(
        task_type=peft.TaskType.CAUSAL_LM,
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules=sorted({name.rpartition(".")[2] for name in linears(SHAPES[shape])}),
        base_model_name_or_path="random",
        revision=fingerprint(model),
    )
    # Last: a folder with a config is whole.
    config.save_pretrained(str(folder))
    return folder


def merge(folder: Path, dtype: str) -> dict[str, Any]:
    """Run the stage in this process; its figures, seconds and the process's peak of memory, if the system tells it."""
    from baihua.stages import merge as stage

    started = time.monotonic()
    out = folder / "merged"
    out.mkdir()
    inputs = {"model": folder / "model", "adapter": folder / "adapter"}
    figures = stage.run(stage.Config.model_validate({"dtype": dtype}), inputs, out)
    return figures | {"seconds": round(time.monotonic() - started, 1), "peak_memory_bytes": peak_bytes()}


def peak_bytes() -> int | None:
    """VmHWM: unlike ru_maxrss, it starts anew in a child process."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


def main() -> None:
    """Make what is missing, run the child and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="7b")
    parser.add_argument("--dtype", default="base")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(merge(args.folder, args.dtype)))
        return
    if not (args.folder / "model" / "config.json").is_file():
        make_model(args.folder / "model", args.shape)
    if not (args.folder / "adapter" / "adapter_config.json").is_file():
        make_adapter(args.folder / "adapter", args.folder / "model", args.shape)
    try:
        # -P: files beside this one are not to be taken for packages.
        child = [sys.executable, "-P", __file__, str(args.folder), "--dtype", args.dtype, "--child"]
        subprocess.run(child, check=True)
    finally:
        shutil.rmtree(args.folder / "merged", ignore_errors=True)


if __name__ == "__main__":
    main()
