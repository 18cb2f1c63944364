"""Speed and disk reads of a model in a memory cgroup, page cache included.

Usage (as root, cgroup v1 or v2): python bench/compress/small_memory.py FILE.gguf --context N [--limit-gib 4]
                                  [--tokens 16] [--second-copy]

With --second-copy llama.cpp keeps a rearranged copy of some weights, which is its default.

FILE is dropped from the page cache first. A child process in the cgroup loads it with llama.cpp, reads a prompt and
generates tokens; major faults and bytes read from the disk are counted between the first tokens and the last. For
comparison: the memory bandwidth of this machine (a sum over a large array on all cores), and the tokens per second
that it allows if all weights are read once per token.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from baihua.modelfiles.gguf_header import read_model_header

GIB = 2**30
ROOT = Path("/sys/fs/cgroup")
NUM_WARM = 3


def main() -> int:
    """Make the cgroup, run the child in it, print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--limit-gib", type=float, default=4)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--second-copy", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(generate(arguments)))
        return 0
    bandwidth = measure_bandwidth()
    weights = sum(tensor.num_bytes for tensor in read_model_header(arguments.file).tensors)
    drop_pages(arguments.file)
    group = make_group(int(arguments.limit_gib * GIB))
    words = [str(arguments.file), "--context", str(arguments.context), "--tokens", str(arguments.tokens), "--child"]
    words += ["--second-copy"] if arguments.second_copy else []
    done = subprocess.run(
        [sys.executable, __file__, *words], capture_output=True, text=True, preexec_fn=lambda: enter(group), check=False
    )
    peak = read_number(group, "memory.max_usage_in_bytes", "memory.peak")
    group.rmdir()
    print(f"limit {arguments.limit_gib:.1f} GiB, context {arguments.context}, weights {weights / 1e9:.2f} GB")
    print(f"memory bandwidth {bandwidth / 1e9:.1f} GB/s: at most {bandwidth / weights:.2f} tokens/s")
    if done.returncode != 0:
        print(f"it did not run (status {done.returncode}): {done.stderr.strip().splitlines()[-1:]}")
        return 1
    found = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{found['tokens_per_second']:.2f} tokens/s ({found['tokens_per_second'] * weights / bandwidth:.0%} of that), "
        f"prompt {found['prompt_tokens_per_second']:.2f} tokens/s; a token: {found['faults_per_token']:.1f} major "
        f"faults, {found['read_bytes_per_token'] / 1e6:.3f} MB read; the cgroup held at most {peak / 1e9:.2f} GB"
    )
    return 0


def generate(arguments: argparse.Namespace) -> dict[str, float]:
    """Greedy tokens in this process; faults and bytes are those after the first ones."""
    import resource

    from baihua.backends.llama_cpp.scorer import Network

    num_tokens: int = arguments.tokens
    network = Network(
        arguments.file,
        num_ctx=arguments.context,
        num_threads=os.cpu_count() or 1,
        num_outputs=1,
        has_second_copy=arguments.second_copy,
    )
    started = time.monotonic()
    token = int(network.feed(list(range(3, 35))).argmax())
    prompt = 32 / (time.monotonic() - started)
    for _ in range(NUM_WARM):
        token = int(network.feed([token]).argmax())
    before, started = (resource.getrusage(resource.RUSAGE_SELF).ru_majflt, read_bytes()), time.monotonic()
    for _ in range(num_tokens):
        token = int(network.feed([token]).argmax())
    seconds = time.monotonic() - started
    return {
        "prompt_tokens_per_second": prompt,
        "tokens_per_second": num_tokens / seconds,
        "faults_per_token": (resource.getrusage(resource.RUSAGE_SELF).ru_majflt - before[0]) / num_tokens,
        "read_bytes_per_token": (read_bytes() - before[1]) / num_tokens,
    }


def read_bytes() -> int:
    """What this process had fetched from the disk, page faults included."""
    return int(Path("/proc/self/io").read_text(encoding="utf-8").partition("\nread_bytes:")[2].split()[0])


def measure_bandwidth() -> float:
    """Bytes a second that all cores read together; best of five passes over a gibibyte."""
    numbers = np.ones(GIB // 8, np.int64)
    parts = np.array_split(numbers, os.cpu_count() or 1)
    best = 0.0
    with ThreadPoolExecutor(len(parts)) as threads:
        for _ in range(5):
            started = time.monotonic()
            list(threads.map(np.max, parts))
            best = max(best, GIB / (time.monotonic() - started))
    return best


def drop_pages(file: Path) -> None:
    """Let the page cache forget a file, so that the cgroup pays for its pages."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def make_group(limit: int) -> Path:
    """A new cgroup with a memory limit."""
    is_v1 = (ROOT / "memory").is_dir()
    group = (ROOT / "memory" if is_v1 else ROOT) / f"baihua-{os.getpid()}"
    group.mkdir()
    (group / ("memory.limit_in_bytes" if is_v1 else "memory.max")).write_text(str(limit), encoding="utf-8")
    return group


def enter(group: Path) -> None:
    """Move this process into a cgroup."""
    (group / "cgroup.procs").write_text(str(os.getpid()), encoding="utf-8")


def read_number(group: Path, *names: str) -> int:
    """The first of some files that is there."""
    return next(int((group / name).read_text(encoding="utf-8")) for name in names if (group / name).is_file())


if __name__ == "__main__":
    sys.exit(main())
