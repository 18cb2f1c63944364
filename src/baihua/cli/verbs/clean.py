"""`baihua clean`."""

from typing import Annotated

import typer

from baihua.cli import options as opt
from baihua.core.run import remove, unneeded
from baihua.core.tables import format_bytes


def clean(
    keep: Annotated[list[str] | None, typer.Option(help="A run to keep; can be repeated.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it, only list what would be removed.")] = False,
    runs: opt.Runs = opt.RUNS,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Remove what no kept run needs: artifacts, unfinished work and the folders of other runs."""
    folders = unneeded(runs, keep or [])
    sizes = {str(f): sum(file.lstat().st_size for file in f.rglob("*") if not file.is_dir()) for f in folders}
    if yes:
        remove(folders)
    if as_json:
        opt.print_json({"removed": yes, "folders": [{"folder": f, "bytes": b} for f, b in sizes.items()]})
        return
    for folder, size in sizes.items():
        print(f"{format_bytes(size):>10}  {folder}")
    total = f"{len(sizes)} folders, {format_bytes(sum(sizes.values()))}"
    print(f"removed {total}" if yes else f"would remove {total}; add --yes to do it")
