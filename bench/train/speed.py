"""Baihua's training beside that of other tools, in one run: rounds of each in turn, then one whole pass of each.

Usage: python bench/train/speed.py WORK SOURCE.jsonl.gz MODEL [--trl PYTHON] [--llamafactory PYTHON]
       [--seconds 90] [--rounds 3] [--rows 2000] [--only NAME ...]

SOURCE as in `rows.py`; MODEL is what import_model made of SmolLM2-135M; PYTHON is the interpreter of an environment
that has the tool (see `rivals.py`). Prints a table: medians of the timed rounds, ratios within each round, and the
held-out loss after one pass over the rows (`--rows 0` leaves that out).
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def main() -> int:
    """Run all tools and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("work", "source", "model"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--trl")
    parser.add_argument("--llamafactory")
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--only", nargs="*")
    arguments = parser.parse_args()
    subprocess.run([sys.executable, HERE / "rows.py", arguments.source, arguments.work], check=True)
    commands = {"baihua": [sys.executable, HERE / "ours.py"]}
    commands |= {name: [sys.executable, HERE / "rivals.py", name] for name in ("trainer", "trainer_bf16")}
    trl = ("trl", "trl_compiled") if arguments.trl else ()
    commands |= {name: [arguments.trl, HERE / "rivals.py", name] for name in trl}
    commands |= (
        {"llamafactory": [arguments.llamafactory, HERE / "rivals.py", "llamafactory"]} if arguments.llamafactory else {}
    )
    commands = {name: command for name, command in commands.items() if not arguments.only or name in arguments.only}
    rounds = [
        {name: run(command, arguments, "--seconds", arguments.seconds) for name, command in commands.items()}
        for _ in range(arguments.rounds)
    ]
    whole = {
        name: run(command, arguments, "--rows", arguments.rows) for name, command in commands.items() if arguments.rows
    }
    print("\n| tool | tokens/s (median) | characters/s | Baihua is x times | peak GB | held-out nats | bits/char |")
    print("|---|---|---|---|---|---|---|")
    for name in commands:
        each = [part[name] for part in rounds]
        ratios = [part["baihua"]["tokens_per_second"] / part[name]["tokens_per_second"] for part in rounds]
        after = whole.get(name, {})
        print(
            f"| {name} | {statistics.median(one['tokens_per_second'] for one in each):.0f} "
            f"| {statistics.median(one['chars_per_second'] for one in each):.0f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
            f"| {max(one['peak_memory_bytes'] for one in each) / 1e9:.2f} "
            f"| {after.get('heldout_nats_per_target_token', float('nan')):.4f} "
            f"| {after.get('heldout_bits_per_char', float('nan')):.4f} |"
        )
    ours = [part["baihua"]["mfu"] for part in rounds]
    print(f"\nn = {arguments.rounds} rounds of {arguments.seconds:.0f} s; share of peak {statistics.median(ours):.3f}")
    return 0


def run(command: list[Any], arguments: argparse.Namespace, how: str, amount: float) -> dict[str, Any]:
    """Run one tool in a separate process and return its output."""
    out = arguments.work / "figures.json"
    words = ["--model", arguments.model, "--data", arguments.work / "train.jsonl", "--out", out]
    words += ["--heldout", arguments.work / "heldout.jsonl", how, amount]
    subprocess.run([str(word) for word in [*command, *words]], check=True, stdout=subprocess.DEVNULL)
    figures = json.loads(out.read_text(encoding="utf-8"))
    print(
        f"{command[-1] if len(command) > 2 else 'baihua'} {how} {amount}: {figures['tokens_per_second']:.1f} tokens/s"
    )
    return figures


if __name__ == "__main__":
    sys.exit(main())
