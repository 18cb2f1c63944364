"""`baihua show`."""

from pathlib import Path
from typing import Annotated

import typer

from baihua.cli import options as opt
from baihua.cli.models import find_model
from baihua.cli.views import data, gguf, rows
from baihua.cli.views.lineage import format_lineage
from baihua.core.run import find_artifacts, lineage
from baihua.core.tables import render_text
from baihua.data.read import catalog


def show(
    path: Annotated[
        str, typer.Argument(help="A run, an artifact's folder or a part of one, a .gguf file, or `catalog[:NAME]`.")
    ],
    num_rows: Annotated[
        int,
        typer.Option("--rows", min=0, help="Print this many rows, trained text in colour; or tensors of a .gguf file."),
    ] = 0,
    dropped: Annotated[str | None, typer.Option(help="Print the rows that were dropped for this reason.")] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Print statistics of a data set.")] = False,
    template: Annotated[str, typer.Option(help="Chat template for --rows.")] = "chatml",
    prompts: Annotated[
        Path | None,
        typer.Option("--prompt", help="JSON Lines with messages: print the exact prompt that the model PATH reads."),
    ] = None,
    runs: opt.Runs = opt.RUNS,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Show what an artifact was made from, rows of its data, or the catalogue of named data sets."""
    if path.partition(":")[0] == "catalog" and not Path(path).exists():
        _print_catalog(path.partition(":")[2], as_json=as_json)
    elif prompts is not None:
        rows.print_prompts(Path(find_model(path, runs)), prompts, as_json=as_json)
    elif path.endswith(".gguf"):
        gguf.print_gguf(Path(path), num_rows=num_rows, as_json=as_json)
    elif stats:
        data.print_stats(Path(path), as_json=as_json)
    elif num_rows:
        rows.print_rows(Path(path), count=num_rows, template=template, as_json=as_json)
    elif dropped:
        rows.print_dropped(Path(path), reason=dropped, as_json=as_json)
    else:
        found = [lineage(artifact) for artifact in find_artifacts(path, runs)]
        if as_json:
            opt.print_json({"artifacts": found})
        else:
            print("\n".join(map(format_lineage, found)))


def _print_catalog(name: str, *, as_json: bool) -> None:
    entries = {name: catalog.find(name)} if name else catalog.load()
    if as_json:
        print(catalog.as_json(entries))
    else:
        print(catalog.show_one(name) if name else render_text(catalog.table(entries)))
