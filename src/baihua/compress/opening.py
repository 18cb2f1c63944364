"""Does llama.cpp open a file and compute with it? Asked in a child process: on some files it ends its process.

Run as `python -m baihua.compress.opening FILE`; exit status 0 if it does.
"""

import subprocess
import sys
from pathlib import Path

from baihua.core.errors import RunError

NUM_CTX = 32


def check_opens(file: Path) -> None:
    """Remove a file that llama.cpp does not load, or whose first logits are no numbers, and raise a RunError."""
    done = subprocess.run([sys.executable, "-m", __name__, str(file)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        file.unlink()
        reason = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        raise RunError(
            f"llama.cpp does not open what was written: {reason}",
            where=str(file),
            fix="check the disk and run the stage again; report it if it stays so",
        )


def main() -> int:
    """Load the file named on the command line, and read one token."""
    import numpy as np

    from baihua.backends.llama_cpp.scorer import Network

    network = Network(Path(sys.argv[1]), num_ctx=NUM_CTX, num_threads=1)
    logits_TV = network.logits([0])  # noqa: N806
    network.close()
    if not np.isfinite(logits_TV).all():
        print("its logits are not finite numbers", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
