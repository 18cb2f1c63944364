"""Memory and speed of quantizing a 7B model, compared with ggml's own function.

Usage: python bench/compress/big.py FOLDER [--level q4_k_m] [--kills 2] [--shape 7b|tiny]

FOLDER/model is a random model of that shape (created if missing, see merge.py). Each step runs in a separate process:
model to f16, f16 to the level, and `ggml_quantize_chunk` alone on all cores, on rows in memory, for every type of the
level. The share of the speed is the time of that function divided by the time of the step. Then the step is killed at
random moments and run again: the file must have the same hash.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from merge import SHAPES, make_model

from baihua.compress.export import write_gguf
from baihua.compress.levels import FLOATS, choose_types
from baihua.compress.quantize import quantize_gguf
from baihua.core.artifact import hash_file
from baihua.modelfiles.description import describe

SECONDS = 6.0
ROWS = 512


def main() -> int:
    """Run every step and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--level", default="q4_k_m")
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="7b")
    parser.add_argument("--step", choices=["f16", "level"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    first, target = arguments.folder / "model-f16.gguf", arguments.folder / f"model-{arguments.level}.gguf"
    if arguments.step:
        return step(arguments.step, arguments.folder / "model", first, target, arguments.level)
    if not (arguments.folder / "model" / "config.json").is_file():
        make_model(arguments.folder / "model", arguments.shape)
    words = [str(arguments.folder), "--level", arguments.level]
    if not first.is_file():
        report("model to f16", run([*words, "--step", "f16"]))
    alone = seconds_alone(first, arguments.level)
    found = run([*words, "--step", "level"])
    report(f"f16 to {arguments.level}", found)
    print(f"ggml_quantize_chunk alone, {os.cpu_count()} threads: {alone:.1f} s; share {alone / found['seconds']:.3f}")
    wanted = hash_file(target)
    target.unlink()
    rng = random.Random(0)
    for _ in range(arguments.kills):
        kill([*words, "--step", "level"], rng.uniform(0.1, 0.9) * found["seconds"])
        print(f"killed; looks whole: {target.exists()}")
    run([*words, "--step", "level"])
    print(f"after {arguments.kills} kills the same file: {hash_file(target) == wanted}")
    return int(hash_file(target) != wanted)


def step(name: str, model: Path, first: Path, target: Path, level: str) -> int:
    """One step in this process; its seconds and its peak of memory as JSON."""
    started = time.monotonic()
    if name == "f16":
        write_gguf(model, first, level="f16")
    else:
        quantize_gguf(first, target, level=level)
    seconds = time.monotonic() - started
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    print(json.dumps({"seconds": seconds, "peak_memory_bytes": peak}))
    return 0


def command(words: list[str]) -> list[str]:
    """This script once more."""
    return [sys.executable, __file__, *words]


def run(words: list[str]) -> dict[str, float]:
    """Run one step in a separate process."""
    done = subprocess.run(command(words), check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def kill(words: list[str], seconds: float) -> None:
    """A step that is killed after some time."""
    child = subprocess.Popen(command(words), stdout=subprocess.DEVNULL)
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    child.wait()


def report(what: str, found: dict[str, float]) -> None:
    """One line."""
    print(f"{what}: {found['seconds']:.1f} s, peak {found['peak_memory_bytes'] / 1e9:.2f} GB", flush=True)


def seconds_alone(source: Path, level: str) -> float:
    """What the bare function would need for all matrices of a level, from its rate on rows of each type."""
    numbers: Counter[tuple[int, int]] = Counter()
    for choice in choose_types(describe(source), level):
        if choice.type not in FLOATS:
            numbers[(int(choice.type), choice.tensor.shape[0])] += choice.tensor.num_weights
    return sum(count / rate(kind, length) for (kind, length), count in numbers.items())


def rate(kind: int, length: int) -> float:
    """Weights a second, all cores, of normally distributed rows."""
    from baihua.backends.llama_cpp.library import open_library

    library = open_library()
    block_size, type_size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    rows = np.random.default_rng(0).normal(0, 0.02, (ROWS, length)).astype(np.float16).astype(np.float32)
    num_bytes = length // block_size * type_size * ROWS
    stop = time.monotonic() + SECONDS

    def work(_: int) -> int:
        done, out = 0, np.empty(num_bytes, np.uint8)
        while time.monotonic() < stop:
            library.ggml_quantize_chunk(kind, rows.ctypes.data, out.ctypes.data, 0, ROWS, length, None)
            done += rows.size
        return done

    started = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        total = sum(threads.map(work, range(os.cpu_count() or 1)))
    return total / (time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main())
