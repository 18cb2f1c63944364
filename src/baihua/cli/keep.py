"""The verb that removes: clean."""

import json
from pathlib import Path
from typing import Annotated

import typer

from baihua.cli.options import RUNS, Debug, Json, Runs, prepare


def clean(
    keep: Annotated[list[str] | None, typer.Option(help="A run to keep; may be given several times.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Really remove; otherwise only say what would go.")] = False,
    runs: Runs = RUNS,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove what no kept run needs: artifacts, unfinished work, and the other runs' folders."""
    from baihua.core.run import remove, unneeded

    prepare(debug=debug)
    folders = unneeded(runs, keep or [])
    sizes = {str(folder): _size(folder) for folder in folders}
    if yes:
        remove(folders)
    if as_json:
        print(json.dumps({"removed": yes, "folders": [{"folder": f, "bytes": b} for f, b in sizes.items()]}))
        return
    for folder, size in sizes.items():
        print(f"{size / 1e6:10,.1f} MB  {folder}")
    total = f"{len(sizes)} folders, {sum(sizes.values()) / 1e6:,.1f} MB"
    print(f"removed {total}" if yes else f"would remove {total}; add --yes to do it")


def _size(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir())
