"""Flags that mean the same wherever they appear."""

from pathlib import Path
from typing import Annotated

import typer

Runs = Annotated[Path, typer.Option("--runs", help="Folder that holds all runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout and nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show more messages, and tracebacks.")]
Extensions = Annotated[
    Path | None, typer.Option("--extensions", help="Folder with stages, formats or methods of your own.")
]
Cluster = Annotated[
    str | None, typer.Option("--cluster", help="Ray cluster for the data stages: an address, or `local`.")
]
Processes = Annotated[
    int | None, typer.Option("--processes", min=1, help="Processes that share the training, on this machine.")
]
RUNS = Path("runs")


def prepare(*, debug: bool, extensions: Path | None = None) -> None:
    """What every verb does first: no library reports its use, messages go to stderr, extensions are found."""
    from baihua.core import env, kinds, log

    env.forbid_telemetry()
    log.set_up(debug=debug)
    if extensions:
        kinds.extend(extensions)
