"""A whole recipe on the tiny model: from raw text to GGUF files and answers, in seconds."""

from pathlib import Path
from typing import Any

from fakes import talk, write_lines

REPLY = "我是白话。"
WORDINGS = ("你是谁？", "你叫什么？", "介绍一下你自己。", "请问你是谁呀？", "你好，你是？")


def write_recipe(folder: Path, model: Path, *, num_steps: int = 200, **tune: Any) -> Path:
    """Write raw rows and a recipe that teaches the tiny model one reply; returns the recipe's file."""
    import yaml

    rows = [talk(wording * (1 + n % 2), REPLY, group=f"g{n}") for n, wording in enumerate(WORDINGS * 8)]
    write_lines(folder / "raw.jsonl", rows)
    stages = {
        "base": {"stage": "import_model", "source": str(model)},
        "raw": {"stage": "import_data", "files": ["raw.jsonl"]},
        "parts": {"stage": "split", "inputs": {"data": "raw"}, "heldout_share": 0.2},
        "tune": {
            "stage": "tune",
            "inputs": {"model": "base", "data": "parts/train", "heldout": "parts/heldout"},
            "method": {"kind": "lora", "rank": 32, "alpha": 64},
            "precision": "float32",
            # A fixed head of 64 random numbers a token cannot get below a loss of 4.99; 2e-2 swings around it.
            "learning_rate": 5.0e-3,
            "max_steps": num_steps,
            "batches": {"num_rows_per_step": 4},
            "examples": {"num_shown": 1},
        }
        | tune,
        "whole": {"stage": "merge", "inputs": {"model": "base", "adapter": "tune", "data": "parts/heldout"}},
        "small": {"stage": "quantize", "inputs": {"model": "whole", "data": "parts/heldout"}},
        "bits": {"stage": "bits", "inputs": {"model": "whole", "data": "parts/heldout"}},
        "answers": {
            "stage": "answer",
            "inputs": {"model": "small/q8_0", "data": "parts/heldout"},
            "num_questions": 4,
            "max_tokens": 16,
        },
    }
    recipe = {"name": "tiny", "seed": 1, "serve": "small/q8_0", "stages": stages}
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return file
