"""A check that llama.cpp opens a file and computes with it, in a child process: some files make it abort.

Run as `python -m baihua.compress.opening FILE`; exit status 0 if it does.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

from baihua.backends.llama_cpp.scorer import Network
from baihua.core.errors import RunError


def check_opens(file: Path) -> None:
    """Remove a file that llama.cpp does not load, or whose first logits are NaN or infinite, and raise a RunError."""
    command = [sys.executable, "-P", "-m", __name__, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        file.unlink()
        reason = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        fix = "check the disk and run the stage again; report the problem if it persists"
        raise RunError(f"llama.cpp does not open the file that was written: {reason}", where=str(file), fix=fix)


if __name__ == "__main__":
    logits = Network(Path(sys.argv[1]), num_ctx=32, num_threads=1).logits([0])
    sys.exit(None if np.isfinite(logits).all() else "its logits are NaN or infinite")
