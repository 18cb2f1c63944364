"""A GGUF file becomes a Hugging Face folder with exactly the same numbers and tokens."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders
from tokenizers.processors import ByteLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig

from baihua.core.errors import InputError
from baihua.core.gguf_header import GgufHeader, read_llama_header
from baihua.model.pretokenizer import IGNORES_MERGES, build

SPECIAL = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
"""Our name of a special token, and GGUF's."""


def convert(gguf_file: Path, out: Path) -> None:
    """Write the model of a GGUF file as a folder of config, safetensors, tokenizer and chat template.

    Quantized weights are multiplied out, which is exact in float32; where 16 bits hold every value, 16 bits
    are written.
    """
    header = read_llama_header(gguf_file)
    _check_rope(header, gguf_file)
    tokenizer = _tokenizer(gguf_file, header)
    model = _model(gguf_file)
    out.mkdir(parents=True, exist_ok=True)
    model.to(_smallest_exact_dtype(model)).save_pretrained(out)
    tokenizer.save(str(out / "tokenizer.json"))
    settings = _settings(header.values)
    (out / "tokenizer_config.json").write_text(
        json.dumps(settings, ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
    )
    template = header.values.get("tokenizer.chat_template")
    if isinstance(template, str):
        (out / "chat_template.jinja").write_text(template, encoding="utf-8")
    ids = {f"{name}_token_id": _id(header.values, name) for name in ("bos", "eos", "pad")}
    GenerationConfig(**{name: token_id for name, token_id in ids.items() if token_id is not None}).save_pretrained(out)


def _model(gguf_file: Path) -> Any:
    # Any: the methods of transformers' models are decorated in a way that hides their types.
    # Without dequantize=True transformers keeps packed weights and refuses to save them.
    config = GgufConfig(gguf_file=gguf_file.name, dequantize=True)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        gguf_file.parent,
        gguf_file=gguf_file.name,
        dtype=torch.float32,
        quantization_config=config,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    model, facts = loaded
    # transformers fills what is missing with random numbers.
    missing = sorted(set(facts["missing_keys"]) - {"lm_head.weight"})
    if missing:
        raise InputError(
            f"{len(missing)} tensors of the model are missing, the first is {missing[0]!r}",
            where=str(gguf_file),
            fix="download or convert the file again",
        )
    return model


def _check_rope(header: GgufHeader, gguf_file: Path) -> None:
    """transformers reads neither kind of stretched positions from a GGUF file, and does not say so."""
    scaling = header.values.get("llama.rope.scaling.type", "none")
    has_factors = any(tensor.name == "rope_freqs.weight" for tensor in header.tensors)
    if scaling != "none" or has_factors:
        raise InputError(
            f"the model stretches its positions (rope scaling {scaling!r}, rope factors: {has_factors}), "
            "which cannot be read from a GGUF file",
            where=str(gguf_file),
            fix="import the model from its Hugging Face folder instead of the .gguf file",
        )


def _tokenizer(gguf_file: Path, header: GgufHeader) -> Tokenizer:
    kind = header.values.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise InputError(
            f"the file's tokenizer is of the kind {kind!r}, expected 'gpt2' (byte-level BPE)",
            where=str(gguf_file),
            fix="import the model from its Hugging Face folder instead of the .gguf file",
        )
    name = str(header.values.get("tokenizer.ggml.pre", "default"))
    pre_tokenizer = build(name, gguf_file)
    loaded = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name, local_files_only=True)
    tokenizer: Tokenizer = loaded.backend_tokenizer
    # transformers gives every model the pre-tokenizer of GPT-2, which keeps digits together.
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = ByteLevel(trim_offsets=False)
    content = json.loads(tokenizer.to_str())
    content["model"]["ignore_merges"] = name in IGNORES_MERGES
    return Tokenizer.from_str(json.dumps(content))


def _smallest_exact_dtype(model: torch.nn.Module) -> torch.dtype:
    weights = list(model.state_dict().values())
    for dtype in (torch.float16, torch.bfloat16):
        if all(torch.equal(weight.to(dtype).to(weight.dtype), weight) for weight in weights):
            return dtype
    return torch.float32


def _settings(values: Mapping[str, Any]) -> dict[str, Any]:
    tokens = values["tokenizer.ggml.tokens"]
    ids = {f"{name}_token": _id(values, name) for name in SPECIAL}
    named = {name: tokens[token_id] for name, token_id in ids.items() if token_id is not None}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **named,
        "add_bos_token": bool(values.get("tokenizer.ggml.add_bos_token", False)),
        "clean_up_tokenization_spaces": False,
        "model_max_length": values["llama.context_length"],
    }


def _id(values: Mapping[str, Any], name: str) -> int | None:
    return values.get(f"tokenizer.ggml.{SPECIAL[name]}_token_id")
