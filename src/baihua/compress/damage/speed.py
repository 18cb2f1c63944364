"""How fast a GGUF file reads and writes on this machine, and how much memory that takes.

Measured in a process of its own, because memory's peak is a process's and other work leaves threads and caches behind:

    python -m baihua.compress.damage.speed FILE [--threads N] [--prompt-tokens 256] [--new-tokens 64] [--repetitions 3]

prints one JSON object. Speeds are medians over the repetitions; `_se` is the standard error of their mean, which tells
how noisy the machine was. `peak_memory_bytes` is the largest resident memory of that process: Python itself (some
60 MB) and every page of the mapped file that was touched count, and so does a second, rearranged copy of the weights,
which llama.cpp makes for some levels.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from baihua.backends.llama_cpp.api import Network, Vocabulary
from baihua.backends.llama_cpp.server import default_num_threads
from baihua.chat.stream import TextStream
from baihua.core.errors import RunError
from baihua.core.system import peak_memory_bytes
from baihua.statistics.clusters import mean

# A model that reads a text again and again goes on with it, so characters per token are those of Chinese.
PROMPT = (
    "春天来了，公园里的花都开了。老人们在树下下棋，孩子们在草地上放风筝。河边的柳树长出了新的叶子，燕子从南方飞回来。"
    "周末的时候，很多人带着家人到郊外去走一走，看看田里的油菜花，呼吸新鲜的空气。"
)


def measure_speed(
    file: Path, *, num_threads: int | None = None, num_prompt_tokens: int = 256, num_new_tokens: int = 64
) -> dict[str, Any]:
    """Speeds and peak memory of a file, measured in a child process."""
    numbers = {"--prompt-tokens": num_prompt_tokens, "--new-tokens": num_new_tokens, "--threads": num_threads}
    options = [word for name, number in numbers.items() if number for word in (name, str(number))]
    # -P: a file of the folder that we happen to run in must not be imported in place of a package.
    command = [sys.executable, "-P", "-m", __name__, str(file), *options]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        last = done.stderr.strip().splitlines()[-5:]
        raise RunError(
            f"the process that measures speed ended with status {done.returncode}: {' / '.join(last) or 'no message'}",
            where=str(file),
            fix="free some memory, or leave speed out (num_speed_tokens: 0)",
        )
    return json.loads(done.stdout.splitlines()[-1])


def run(
    file: Path, *, num_threads: int, num_prompt_tokens: int, num_new_tokens: int, num_repetitions: int
) -> dict[str, Any]:
    """Read a prompt and go on greedily, several times, in this process; the first reading only warms up."""
    vocabulary = Vocabulary(file)
    once = vocabulary.encode(PROMPT)
    first = [vocabulary.bos_id] if vocabulary.adds_bos and vocabulary.bos_id is not None else []
    prompt = (first + once * (num_prompt_tokens // len(once) + 1))[:num_prompt_tokens]
    network = Network(file, num_ctx=num_prompt_tokens + num_new_tokens + 1, num_threads=num_threads, num_outputs=1)
    if network.num_ctx < num_prompt_tokens + num_new_tokens:
        raise RunError(
            f"{num_prompt_tokens} + {num_new_tokens} tokens do not fit the model's context of {network.num_ctx}",
            where=str(file),
            fix="measure fewer tokens",
        )
    network.feed(prompt)
    rounds = [_round(network, vocabulary, prompt, num_new_tokens) for _ in range(num_repetitions)]
    network.close()
    vocabulary.close()
    return dict(_figures(rounds)) | {
        "peak_memory_bytes": peak_memory_bytes(),
        "num_prompt_tokens": num_prompt_tokens,
        "num_new_tokens": num_new_tokens,
        "num_repetitions": num_repetitions,
        "num_threads": num_threads,
    }


def _round(network: Network, vocabulary: Vocabulary, prompt: list[int], num_new_tokens: int) -> dict[str, float]:
    network.forget()
    started = time.perf_counter()
    logits_v = network.feed(prompt)
    read = time.perf_counter()
    stream, num_chars = TextStream(), 0
    for _ in range(num_new_tokens):
        token_id = int(logits_v.argmax())
        num_chars += len(stream.push(vocabulary.token_bytes(token_id)))
        logits_v = network.feed([token_id])
    written = time.perf_counter() - read
    return {
        "prompt_tokens_per_second": len(prompt) / (read - started),
        "tokens_per_second": num_new_tokens / written,
        "chars_per_second": num_chars / written,
    }


def _figures(rounds: list[dict[str, float]]) -> Iterator[tuple[str, float]]:
    for name in rounds[0]:
        values = [one[name] for one in rounds]
        yield name, round(statistics.median(values), 2)
        found = mean(values)
        if found and found.standard_error is not None:
            yield f"{name}_se", round(found.standard_error, 3)


def main() -> None:
    """Measure and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--prompt-tokens", type=int, default=256)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    figures = run(
        options.file,
        num_threads=options.threads or default_num_threads(),
        num_prompt_tokens=options.prompt_tokens,
        num_new_tokens=options.new_tokens,
        num_repetitions=options.repetitions,
    )
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
