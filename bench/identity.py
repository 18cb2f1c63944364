"""Ask a GGUF who it is, in wordings that its training set does not have; greedy, through llama.cpp.

Usage: python bench/identity.py MODEL.gguf [tests/data/unseen_identity.json]
"""

import json
import sys
from pathlib import Path

from baihua.backends.llama_cpp.chat import open_chat
from baihua.chat.types import Message, Sampling

NAMES = ("白话", "Baihua", "baihua")
PROMPTS = Path(__file__).parents[1] / "tests/data/unseen_identity.json"


def main() -> int:
    """Print every reply; 1 unless 9 of 10 identity wordings give the name and no ordinary prompt does."""
    file = Path(sys.argv[2]) if len(sys.argv) > 2 else PROMPTS
    prompts = json.loads(file.read_text(encoding="utf-8"))
    model = open_chat(Path(sys.argv[1]))
    named: dict[str, int] = {}
    for kind in ("identity", "ordinary"):
        named[kind] = 0
        for prompt in prompts[kind]:
            pieces = model.stream([Message("user", prompt)], Sampling(temperature=0.0, max_tokens=64))
            reply = "".join(piece.text for piece in pieces)
            is_named = any(name in reply for name in NAMES)
            named[kind] += is_named
            print(f"{kind:<9} {'named' if is_named else '-':<6} {prompt} -> {reply!r}")
        print(f"{kind}: {named[kind]} of {len(prompts[kind])} name Baihua")
    model.close()
    return int(named["identity"] < 0.9 * len(prompts["identity"]) or named["ordinary"] > 0)


if __name__ == "__main__":
    sys.exit(main())
