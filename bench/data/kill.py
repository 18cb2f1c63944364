"""A long import and cleaning, killed at random moments and started again: does it end with the same bytes?

Usage: python bench/data/kill.py WORK DATA.jsonl [--kills 5] [--seed 0]

`kill -9` hits the process alone, so its workers outlive it for a moment, as after a crash. Each rerun is killed too,
until the last one may end. After each kill it is checked that nothing counts as complete.
"""

import argparse
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from speed import FILTERS


def main() -> int:
    """Kill and compare; 1 where the outputs differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)
    rng = random.Random(options.seed)
    is_same = True
    imported = options.work / "import-whole"
    stages = {
        "import": ["import_data", f"files=[{options.data}]", "bad_rows=drop"],
        "clean": ["clean", FILTERS, "--in", f"data={imported}"],
    }
    for name, words in stages.items():
        whole, killed = options.work / f"{name}-whole", options.work / f"{name}-killed"
        seconds = run(words, whole)
        print(f"{name}: {seconds:.1f} s undisturbed")
        num_kills, total = 0, 0.0
        while num_kills < options.kills:
            is_killed, lived = die_at(words, killed, rng.uniform(0.1, 0.95) * seconds)
            num_kills, total = num_kills + is_killed, total + lived
        last = run(words, killed)
        print(f"{name}: {num_kills} kills after {total:.1f} s of work, then {last:.1f} s to the end")
        same = hashes(whole) == hashes(killed)
        print(f"{name}: {'the same bytes' if same else 'OTHER BYTES'} {hashes(killed)}", flush=True)
        is_same &= same
    return 0 if is_same else 1


def run(words: list[str], out: Path) -> float:
    """A stage to its end; the seconds."""
    start = time.perf_counter()
    subprocess.run(command(words, out), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def die_at(words: list[str], out: Path, seconds: float) -> tuple[bool, float]:
    """Start a stage and kill it; whether it was still at work, and the seconds it had."""
    start = time.perf_counter()
    process = subprocess.Popen(command(words, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not out.exists(), "a killed stage left something that looks complete"
        finished = sum(1 for folder in out.parent.glob(f"{out.name}-*.partial") for _ in folder.rglob("*.json"))
        print(f"  killed after {seconds:.1f} s with {finished} shards finished")
        return True, seconds
    print("  it was done before it could be killed; once more from the start")
    shutil.rmtree(out)
    return False, time.perf_counter() - start


def command(words: list[str], out: Path) -> list[str]:
    """The command line of a stage."""
    return [sys.executable, "-m", "baihua", "do", *words, "--out", str(out)]


def hashes(folder: Path) -> dict[str, str]:
    """The first digits of the SHA-256 of each table."""
    files = sorted(folder.glob("*.parquet"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files}


if __name__ == "__main__":
    sys.exit(main())
