"""Pre-tokenizers of byte-level BPE, which split a text before merges apply: names in GGUF, steps in tokenizer.json.

llama.cpp has each of these in C++ under the GGUF name; the definitions are those of the models' own
tokenizer.json files (SmolLM2, Llama 3, Qwen2, GPT-2).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Regex, pre_tokenizers

from baihua.core.errors import InputError
from baihua.modelfiles.gguf_header import FROM_FOLDER

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORDS_AND_MARKS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA_3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + WORDS_AND_MARKS
QWEN_2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + WORDS_AND_MARKS

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
BYTES_ONLY = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


def _split(regex: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


DEFINITIONS: dict[str, list[dict[str, Any]]] = {
    "smollm": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL],
    "gpt-2": [BYTE_LEVEL],
    "llama-bpe": [_split(LLAMA_3), BYTES_ONLY],
    "qwen2": [_split(QWEN_2), BYTES_ONLY],
}
# Llama 3 looks up a whole word before it merges; llama.cpp does so by this name.
IGNORES_MERGES = frozenset({"llama-bpe"})
# Texts begin with a token unless the file says otherwise.
BEGINS_TEXTS = frozenset({"llama-bpe"})
# Other names for exactly the same in llama.cpp.
ALIASES = {"llama3": "llama-bpe", "llama-v3": "llama-bpe", "deepseek-r1-qwen": "qwen2"}
# Qwen2 composes characters first (NFC), llama.cpp does not: their ids differ on decomposed text only.
NORMALIZERS: dict[str, tuple[dict[str, str] | None, ...]] = {"qwen2": (None, {"type": "NFC"})}


def name_of(tokenizer_json: Mapping[str, Any], where: Path) -> str:
    """The GGUF name of a tokenizer.json's pre-tokenizer; an InputError for one that llama.cpp does not have."""
    found = tokenizer_json.get("pre_tokenizer")
    steps = _steps(found)
    name = next((name for name, definition in DEFINITIONS.items() if definition == steps), None)
    if name is None:
        what = f"the tokenizer's pre_tokenizer is not one that llama.cpp is known to match: {json.dumps(found)[:400]}"
        fix = f"use a model whose pre-tokenizer is one of: {', '.join(sorted(DEFINITIONS))}"
        raise InputError(what, where=str(where), fix=fix)
    ignores_merges = bool(tokenizer_json["model"].get("ignore_merges"))
    normalizer = tokenizer_json.get("normalizer")
    if ignores_merges != (name in IGNORES_MERGES) or normalizer not in NORMALIZERS.get(name, (None,)):
        found = f"ignore_merges={ignores_merges} and normalizer={json.dumps(normalizer)}"
        what = f"the tokenizer splits texts like {name!r} but has {found}, which llama.cpp does not apply to {name!r}"
        raise InputError(what, where=str(where), fix="use the model's original tokenizer.json")
    return name


def build(name: str, where: Path) -> pre_tokenizers.PreTokenizer:
    """The pre-tokenizer of a GGUF name; an InputError for an unknown one."""
    if name not in DEFINITIONS:
        what = f"the file's pre-tokenizer (tokenizer.ggml.pre) is {name!r}, known are {', '.join(sorted(DEFINITIONS))}"
        raise InputError(what, where=str(where), fix=FROM_FOLDER)
    steps = [_BUILDERS[step["type"]](step) for step in DEFINITIONS[name]]
    return pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]


def _steps(pre_tokenizer: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The steps of a definition without settings that do not change where texts are split."""
    if pre_tokenizer is None:
        return []
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer.get("type") == "Sequence" else [pre_tokenizer]
    # trim_offsets only moves the reported positions; use_regex was added later and is true where it is missing.
    plain = [{key: value for key, value in step.items() if key != "trim_offsets"} for step in steps]
    return [{"use_regex": True} | step if step.get("type") == "ByteLevel" else step for step in plain]


_BUILDERS = {
    "Digits": lambda step: pre_tokenizers.Digits(individual_digits=step["individual_digits"]),
    "ByteLevel": lambda step: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=step["use_regex"]),
    "Split": lambda step: pre_tokenizers.Split(Regex(step["pattern"]["Regex"]), "isolated"),
}
