"""How fast are import and cleaning, how much memory do they take, and how do both grow with the rows?

Usage: python bench/data/speed.py WORK [--rows 1000000] [--plain-rows 300000]

Two sets: `versions` (the real rows in 20 versions that are near-duplicates) and `ciphers` (20 versions that are not,
with 10 % near-duplicates). Each goes through import_data and clean, as a user runs them; the same with a tenth of the
rows; and the same work as a plain `datasets.map` + datasketch pipeline. Wanted on two cores: at most
240 s and 5 GB for a million rows, at most 13 times the time of 100,000, and 3 times the plain pipeline's rows a second.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from watch import Needed, do, watch

HERE = Path(__file__).parent
FILTERS = (
    "filters=[{kind: empty}, {kind: length, maximum_chars: 8000}, {kind: han_share, minimum: 0.3}, {kind: script}, "
    "{kind: width}, {kind: literal_newline}, {kind: repetition}, {kind: refusal}, {kind: exact_duplicate}, "
    "{kind: near_duplicate}]"
)
SLOW = {"language": "filters=[{kind: language}]", "mojibake": "filters=[{kind: mojibake}]"}


def main() -> int:
    """Make the sets, time them, print a table; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--plain-rows", type=int, default=300_000)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    is_fine = True
    for kind in ("versions", "ciphers"):
        small = make(arguments.work, kind, arguments.rows // 10)
        seconds_small = report(kind, arguments.rows // 10, build(arguments.work, small))
        needed = build(arguments.work, make(arguments.work, kind, arguments.rows))
        seconds = report(kind, arguments.rows, needed)
        peak = max(step.peak_bytes for step in needed.values())
        print(f"{kind:<10}ten times the rows take {seconds / seconds_small:.2f} times as long")
        faster = (arguments.rows / seconds) / plain_rate(arguments.work, kind, arguments.plain_rows)
        print(f"{kind:<10}rows a second: {faster:.2f} times the plain pipeline's", flush=True)
        is_fine &= seconds <= 240 and peak <= 5e9 and seconds / seconds_small <= 13 and faster >= 3
    for name, filters in SLOW.items():
        out = fresh(arguments.work / name)
        one = do("clean", filters, out=out, data=arguments.work / "imported")
        print(f"{name:<10}alone {one.seconds:.1f} s for the last set")
    return 0 if is_fine else 1


def plain_rate(work: Path, kind: str, num_rows: int) -> float:
    """Rows a second of the plain pipeline, which do not become more with more rows."""
    command = [sys.executable, str(HERE / "plain.py"), str(make(work, kind, num_rows)), str(work / "plain")]
    plain = watch(command)
    memory = f"{plain.seconds:8.1f} s {plain.peak_bytes / 1e9:6.2f} GB"
    print(f"{kind:<10}{num_rows:>10,} rows plain   {memory}, {num_rows / plain.seconds:,.0f} rows/s  {plain.output}")
    return num_rows / plain.seconds


def make(work: Path, kind: str, num_rows: int) -> Path:
    """The file of a set, made once."""
    file = work / f"{kind}-{num_rows}.jsonl"
    if not file.exists():
        command = [sys.executable, str(HERE / "perturb.py"), str(file), "--rows", str(num_rows), "--kind", kind]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return file


def build(work: Path, file: Path) -> dict[str, Needed]:
    """Import and clean a file."""
    imported, cleaned = fresh(work / "imported"), fresh(work / "cleaned")
    return {
        "import": do("import_data", f"files=[{file}]", "bad_rows=drop", out=imported),
        "clean": do("clean", FILTERS, out=cleaned, data=imported),
    }


def report(kind: str, num_rows: int, steps: dict[str, Needed]) -> float:
    """Print what a set took; its seconds."""
    for name, step in steps.items():
        print(f"{kind:<10}{num_rows:>10,} rows {name:<8}{step.seconds:8.1f} s {step.peak_bytes / 1e9:6.2f} GB")
    metrics = steps["clean"].output["stages"][0]["metrics"]
    seconds = sum(step.seconds for step in steps.values())
    print(f"{kind:<10}{num_rows:>10,} rows in all  {seconds:8.1f} s, {num_rows / seconds:,.0f} rows/s")
    print(f"{'':<10}kept {metrics['num_rows_kept']:,}, dropped {metrics['num_rows_dropped']}", flush=True)
    return seconds


def fresh(folder: Path) -> Path:
    """A folder that is not there."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
