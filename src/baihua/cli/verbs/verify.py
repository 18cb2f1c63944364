"""`baihua verify`."""

from typing import Annotated

import typer

from baihua.cli import options as opt
from baihua.core.artifact import differences
from baihua.core.run import find_artifacts


def verify(
    path: Annotated[str, typer.Argument(help="A run, or an artifact's folder.")],
    runs: opt.Runs = opt.RUNS,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Compare every file of an artifact or run with its manifest."""
    found = {str(artifact.folder): differences(artifact) for artifact in find_artifacts(path, runs)}
    is_ok = not any(found.values())
    if as_json:
        opt.print_json({"ok": is_ok, "artifacts": found})
    else:
        for folder, lines in found.items():
            print("\n".join([f"{'differs' if lines else 'ok':<8} {folder}", *(f"         {line}" for line in lines)]))
    raise typer.Exit(0 if is_ok else 1)
