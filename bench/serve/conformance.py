"""Does OpenAI's own client get what it expects?

Usage: python bench/serve/conformance.py MODEL.gguf [--embeddings MODEL2.gguf] [--threads 1]

Starts `baihua serve` with a key, two slots, a queue of six and two models behind one port: MODEL as `m`, and MODEL2 (or
MODEL once more) as `second`, which is the one asked for vectors. Each check is a row: area, check, result. All must
hold, else the exit status is 1. The checks are in `checks_answers.py` (what is answered) and `checks_service.py` (how a
server behaves). Answers are compared one at a time, because side by side a close choice may fall the other way
(docs/serving.md).
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import checks_answers
import checks_service
import openai
from checks_answers import Bench, UnmetError
from server import serving

from baihua.backends.llama_cpp.tokenizer import GgufTokenizer

CHECKS: list[tuple[str, str, Callable[[Bench], str]]] = [*checks_answers.CHECKS, *checks_service.CHECKS]
KEY = "a-key-of-the-bench"


def main() -> int:
    """Run all checks, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--embeddings", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    second = arguments.embeddings or arguments.model
    words = ["--slots", "2", "--max-waiting", "6", "--context", "1024", "--threads", str(arguments.threads)]
    with tempfile.TemporaryDirectory() as folder:
        key_file = Path(folder) / "key"
        key_file.write_text(KEY, encoding="utf-8")
        with serving(f"m={arguments.model}", f"second={second}", "--api-key-file", str(key_file), *words) as server:
            bench = Bench(server.url, KEY, GgufTokenizer(arguments.model), GgufTokenizer(second))
            num_good = sum(run(bench, *row) for row in CHECKS)
            complaints = server.complaints()
    print(f"{num_good} of {len(CHECKS)}")
    print(f"lines of the server's log, at most 5: {complaints[-5:]}")
    # llama.cpp itself writes there that it could not read a grammar.
    return int(num_good < len(CHECKS) or any("Traceback" in line for line in complaints))


def run(bench: Bench, area: str, name: str, check: Callable[[Bench], str]) -> bool:
    """Run one check and print its row; whether all was as it must be."""
    try:
        found, is_good = f"ok  {check(bench)}", True
    # What a client of another version or a strange answer may raise is a result of the check, as is an unmet one.
    except (UnmetError, openai.OpenAIError, ValueError, TypeError, LookupError) as error:
        found, is_good = f"NOT {type(error).__name__}: {error}"[:300], False
    print(f"{area:<12}| {name:<58}| {found}", flush=True)
    return is_good


if __name__ == "__main__":
    sys.exit(main())
