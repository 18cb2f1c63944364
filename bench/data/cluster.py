"""Does a Ray cluster of two nodes give what the local engine gives, also when a worker is killed?

Usage: python bench/data/cluster.py WORK [--rows 200000] [--seed 0]

Both nodes run on this machine, one CPU each. The same import and cleaning runs locally, on the cluster, and on the
cluster while one worker process is killed in the middle. Ids, texts, reasons and counts must be the same.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]  (the extra `cluster`)
from speed import FILTERS, make

from baihua.core.env import forbid_telemetry

WORKER = "ray::UDFActor"


def main() -> int:
    """Run all three; 1 where they differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    data = make(options.work, "ciphers", options.rows)
    forbid_telemetry()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        print(f"cluster of {len(cluster.list_all_nodes())} nodes at {cluster.address}")
        local = build(options.work / "local", data, [])
        there = build(options.work / "cluster", data, ["--cluster", str(cluster.address)])
        killed = build(
            options.work / "killed", data, ["--cluster", str(cluster.address)], rng=random.Random(options.seed)
        )
    finally:
        cluster.shutdown()
    is_same = local == there == killed
    print(f"{len(local[0]):,} rows kept, {len(local[1]):,} dropped: {'all the same' if is_same else 'DIFFERENT'}")
    return 0 if is_same else 1


Rows = tuple[set[tuple[str, str]], set[tuple[str, str, str]], str]


def build(folder: Path, data: Path, flags: list[str], *, rng: random.Random | None = None) -> Rows:
    """Import and clean; what came out. With a generator, one worker of each stage is killed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    imported, cleaned = folder / "imported", folder / "cleaned"
    for words in (
        ["import_data", f"files=[{data}]", "bad_rows=drop", "--out", str(imported)],
        ["clean", FILTERS, "--in", f"data={imported}", "--out", str(cleaned)],
    ):
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "baihua", "do", *words, *flags], stdout=subprocess.DEVNULL)
        if rng is not None:
            print(f"  killed worker {kill_a_worker(process, rng)} of {words[0]}")
        if process.wait() != 0:
            sys.exit(f"{words[0]} failed in {folder}")
        print(f"{folder.name:<8} {words[0]:<12}{time.perf_counter() - start:7.1f} s", flush=True)
    return read(cleaned)


def kill_a_worker(process: subprocess.Popen[bytes], rng: random.Random) -> int | None:
    """Wait until workers have worked for a moment, and kill one of them; its process id."""
    while process.poll() is None:
        workers = [worker for worker in psutil.Process().children(recursive=True) if WORKER in " ".join(name(worker))]
        if workers:
            time.sleep(rng.uniform(0.5, 2.0))
            alive = [worker for worker in workers if worker.is_running()]
            if alive and process.poll() is None:
                os.kill(alive[0].pid, signal.SIGKILL)
                return alive[0].pid
        time.sleep(0.05)
    return None


def name(process: psutil.Process) -> list[str]:
    """A process's command line, empty when it is gone."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def read(folder: Path) -> Rows:
    """Ids with texts, dropped ids with reasons and details, and the counts."""
    kept = pq.read_table(folder / "conversations.parquet", columns=["id", "messages"]).to_pylist()
    dropped = pq.read_table(folder / "dropped.parquet", columns=["id", "reason", "detail"]).to_pylist()
    metrics = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["metrics"]
    return (
        {(row["id"], str(row["messages"])) for row in kept},
        {(row["id"], row["reason"], row["detail"]) for row in dropped},
        json.dumps(metrics, sort_keys=True),
    )


if __name__ == "__main__":
    sys.exit(main())
