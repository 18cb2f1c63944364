"""Lines that tokenizers disagree about: Chinese, English, digits, emoji, code, odd spaces, control names."""

import random

PIECES = [
    "你好世界今天天气",
    "，。！？：",
    "（）《》",
    "\u3000",
    "鲸𠮷",
    "한국",
    "hello World",
    "don't",
    "I'LL",
    "123",
    "2026年",
    "3.14",
    "١٢",
    "½",
    "①Ⅷ",
    " ",
    "  ",
    "\t",
    "\n",
    "\n\n",
    "\r\n",
    "\u00a0",
    "🎉",
    "👩‍👩‍👧",
    "é",
    "e\u0301",
    "def f(x):",
    "    return x",
    "_",
    "--",
    "<|im_end|>",
    "<|im_start|>system",
    "</s>",
    "[INST]",
]


def lines(count: int, seed: int = 0) -> list[str]:
    """The same random lines for the same seed."""
    rng = random.Random(seed)
    return ["".join(rng.choices(PIECES, k=rng.randint(1, 12))) for _ in range(count)]
