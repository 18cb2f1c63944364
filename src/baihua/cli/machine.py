"""What the doctor looks at."""

import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from baihua.core.system import free_memory_bytes, total_memory_bytes

GIB = 2**30
NEEDED_DISK_BYTES = 4 * GIB
NEEDED_MEMORY_BYTES = 6 * GIB


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: what was found, and the command that mends it if it is not well."""

    name: str
    is_ok: bool
    found: str
    fix: str = ""

    def as_json(self) -> dict[str, str | bool]:
        """For --json."""
        return asdict(self)


def examine(runs: Path) -> list[Finding]:
    """Everything that decides whether the demo will run here."""
    return [_python(), _cores(), _memory(), _disk(runs), _torch(), _bfloat16(), *_packages(), _writable(runs)]


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("Python", sys.version_info >= (3, 11), found, "install Python 3.11 or newer")


def _cores() -> Finding:
    return Finding("cores", True, f"{os.cpu_count()}")


def _memory() -> Finding:
    free, total = free_memory_bytes(), total_memory_bytes()
    found = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
    return Finding("memory", free >= NEEDED_MEMORY_BYTES, found, "close other programs: the demo needs 6 GiB")


def _disk(runs: Path) -> Finding:
    folder = next(path for path in [runs.resolve(), *runs.resolve().parents] if path.exists())
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.1f} GiB free for {runs}"
    return Finding("disk", free >= NEEDED_DISK_BYTES, found, "free 4 GiB, or use --runs on another disk")


def _torch() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("torch", False, "not installed", "pip install torch")
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    found = f"{torch.__version__}, {', '.join(gpus) if gpus else 'CPU only'}, {torch.get_num_threads()} threads"
    return Finding("torch", True, found)


def _bfloat16() -> Finding:
    import torch

    from baihua.train.plan.device import has_bfloat16

    found = (
        "native, training is fast" if has_bfloat16(torch.device("cpu")) else "not native here, training uses float32"
    )
    return Finding("bfloat16", True, found)


def _packages() -> list[Finding]:
    names = ("transformers", "peft", "accelerate", "tokenizers", "gguf", "xllamacpp", "pyarrow")
    return [_package(name) for name in names]


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, False, "not installed", f"pip install {name}")


def _writable(runs: Path) -> Finding:
    folder = next(path for path in [runs.resolve(), *runs.resolve().parents] if path.exists())
    return Finding("runs folder", os.access(folder, os.W_OK), str(runs), "use --runs DIR with a folder you may write")
