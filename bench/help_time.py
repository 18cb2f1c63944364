"""Median seconds of `baihua --help`, and of an empty Python beside it.

Usage: python bench/help_time.py [NUM_RUNS]
"""

import statistics
import subprocess
import sys
import time


def seconds(command: list[str]) -> float:
    """Wall time of one run."""
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def main() -> None:
    """Print both medians."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    for name, words in (("baihua --help", ["-m", "baihua", "--help"]), ("python -c pass", ["-c", "pass"])):
        times = [seconds([sys.executable, *words]) for _ in range(count)]
        print(f"{name:<16} median {statistics.median(times):.3f} s, slowest {max(times):.3f} s, n {count}")


if __name__ == "__main__":
    main()
