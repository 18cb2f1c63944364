"""`baihua doctor`."""

import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from baihua.cli import options as opt
from baihua.cli.views.fit import print_fit
from baihua.core.system import free_memory_bytes, total_memory_bytes

GIB = 2**30
NEEDED_DISK_BYTES = 4 * GIB
NEEDED_MEMORY_BYTES = 6 * GIB
PACKAGES = ("transformers", "peft", "accelerate", "tokenizers", "gguf", "xllamacpp", "pyarrow")


def doctor(
    fit: Annotated[
        str | None, typer.Option(metavar="MODEL", help="What runs where: a model folder, a .gguf file or a run.")
    ] = None,
    context: Annotated[int | None, typer.Option(min=1, help="Tokens of context, for --fit.")] = None,
    runs: opt.Runs = opt.RUNS,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Check what this machine can do and how to install what is missing; with --fit, which models run where."""
    if fit is not None:
        print_fit(fit, runs=runs, num_ctx=context, as_json=as_json)
        return
    found = examine(runs)
    if as_json:
        opt.print_json({"ok": all(item.is_ok for item in found), "checks": [asdict(item) for item in found]})
        return
    for item in found:
        print(f"{'ok  ' if item.is_ok else 'FAIL'} {item.name:<18} {item.found}")
        if not item.is_ok:
            print(f"     fix: {item.fix}")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked: what was found, and the command that fixes it if it is not well."""

    name: str
    is_ok: bool
    found: str
    fix: str = ""


def examine(runs: Path) -> list[Finding]:
    """Everything that decides whether the demo runs here."""
    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    free, total = free_memory_bytes(), total_memory_bytes()
    memory = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
    folder = next(path for path in [runs.resolve(), *runs.resolve().parents] if path.exists())
    free_disk = shutil.disk_usage(folder).free
    disk, disk_fix = f"{free_disk / GIB:.1f} GiB free for {runs}", "free 4 GiB, or use --runs on another disk"
    return [
        Finding("Python", sys.version_info >= (3, 11), python, "install Python 3.11 or newer"),
        Finding("cores", True, f"{os.cpu_count()}"),
        Finding("memory", free >= NEEDED_MEMORY_BYTES, memory, "close other programs: the demo needs 6 GiB"),
        Finding("disk", free_disk >= NEEDED_DISK_BYTES, disk, disk_fix),
        *_torch(),
        *map(_package, PACKAGES),
        Finding("runs folder", os.access(folder, os.W_OK), str(runs), "use --runs with a folder that you can write to"),
    ]


def _torch() -> list[Finding]:
    if importlib.util.find_spec("torch") is None:
        return [Finding("torch", False, "not installed", "pip install torch")]
    import torch

    # Imports torch and accelerate.
    from baihua.train.plan.device import has_bfloat16

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    found = f"{torch.__version__}, {', '.join(gpus) if gpus else 'CPU only'}, {torch.get_num_threads()} threads"
    is_native = has_bfloat16(torch.device("cpu"))
    bfloat16 = "native, training is fast" if is_native else "not native here, training uses float32"
    return [Finding("torch", True, found), Finding("bfloat16", True, bfloat16)]


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, False, "not installed", f"pip install {name}")
