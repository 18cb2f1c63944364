"""Speed and peak memory of a GGUF file on this machine.

Both are measured in a child process, because peak memory belongs to a process and other work leaves threads and caches
behind. Speeds are medians over the repetitions; `_se` is the standard error of their mean, which shows how noisy the
machine was. `peak_memory_bytes` is the largest resident memory of the process: it includes Python itself (some 60 MB),
every page of the mapped file that was touched, and the second, rearranged copy of the weights that llama.cpp makes at
some levels.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from baihua.backends.llama_cpp.library import default_num_threads
from baihua.backends.llama_cpp.scorer import Network
from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
from baihua.chat.stream import TextStream
from baihua.core.errors import RunError
from baihua.core.system import peak_memory_bytes

# A model that reads a text repeatedly continues it, so characters per token are those of Chinese.
PROMPT = (
    "春天来了，公园里的花都开了。老人们在树下下棋，孩子们在草地上放风筝。河边的柳树长出了新的叶子，燕子从南方飞回来。"
    "周末的时候，很多人带着家人到郊外去走一走，看看田里的油菜花，呼吸新鲜的空气。"
)


def measure_speed(
    file: Path, *, num_threads: int | None = None, num_prompt_tokens: int = 256, num_new_tokens: int = 64
) -> dict[str, Any]:
    """Speeds and peak memory of a file, measured in a child process."""
    settings = {"num_threads": num_threads or default_num_threads()}
    settings |= {"num_prompt_tokens": num_prompt_tokens, "num_new_tokens": num_new_tokens}
    # -P: a file in the current folder must not be imported in place of a package.
    command = [sys.executable, "-P", "-m", __name__, str(file), json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        last = " / ".join(done.stderr.strip().splitlines()[-5:]) or "no message"
        what = f"the process that measures speed ended with status {done.returncode}: {last}"
        raise RunError(what, where=str(file), fix="free some memory, or leave speed out (num_speed_tokens: 0)")
    return json.loads(done.stdout.splitlines()[-1])


def run(
    file: Path, *, num_threads: int, num_prompt_tokens: int, num_new_tokens: int, num_repetitions: int = 3
) -> dict[str, Any]:
    """Read a prompt and continue it greedily, several times, in this process; the first reading only warms up."""
    tokenizer = GgufTokenizer(file)
    once = tokenizer.encode(PROMPT)
    first = [tokenizer.bos_id] if tokenizer.bos_id is not None else []
    prompt = (first + once * (num_prompt_tokens // len(once) + 1))[:num_prompt_tokens]
    network = Network(file, num_ctx=num_prompt_tokens + num_new_tokens + 1, num_threads=num_threads, num_outputs=1)
    if network.num_ctx < num_prompt_tokens + num_new_tokens:
        what = f"{num_prompt_tokens} + {num_new_tokens} tokens do not fit into the model's context of {network.num_ctx}"
        raise RunError(what, where=str(file), fix="measure fewer tokens")
    network.feed(prompt)
    rounds = [_round(network, tokenizer, prompt, num_new_tokens) for _ in range(num_repetitions)]
    network.close()
    tokenizer.close()
    settings = {"num_prompt_tokens": num_prompt_tokens, "num_new_tokens": num_new_tokens}
    settings |= {"num_repetitions": num_repetitions, "num_threads": num_threads}
    return _figures(rounds) | {"peak_memory_bytes": peak_memory_bytes()} | settings


def _round(network: Network, tokenizer: GgufTokenizer, prompt: list[int], num_new_tokens: int) -> dict[str, float]:
    network.forget()
    started = time.perf_counter()
    logits_v = network.feed(prompt)
    read = time.perf_counter()
    stream, num_chars = TextStream(), 0
    for _ in range(num_new_tokens):
        token_id = int(logits_v.argmax())
        num_chars += len(stream.push(tokenizer.token_bytes(token_id)))
        logits_v = network.feed([token_id])
    written = time.perf_counter() - read
    writing = {"tokens_per_second": num_new_tokens / written, "chars_per_second": num_chars / written}
    return {"prompt_tokens_per_second": len(prompt) / (read - started)} | writing


def _figures(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of each figure, and the standard error of its mean."""
    found: dict[str, float] = {}
    for name in rounds[0]:
        values = [one[name] for one in rounds]
        found[name] = round(statistics.median(values), 2)
        found[f"{name}_se"] = round(statistics.stdev(values) / len(values) ** 0.5, 3)
    return found


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), **json.loads(sys.argv[2]))))  # noqa: T201
