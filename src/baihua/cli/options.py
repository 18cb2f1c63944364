"""Arguments and options that several verbs share, and the output of `--json`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from baihua.core import kinds, log


def _set_up_messages(debug: bool) -> bool:
    log.set_up(debug=debug)
    return debug


def _extend(folder: Path | None) -> Path | None:
    if folder:
        kinds.extend(folder)
    return folder


# The callbacks of --debug and --extensions do their work; a verb only has to list the options.
Debug = Annotated[
    bool, typer.Option("--debug", callback=_set_up_messages, help="Print debug messages, and tracebacks of errors.")
]
Extensions = Annotated[
    Path | None, typer.Option("--extensions", callback=_extend, help="Folder with your own stages, formats, methods...")
]
Runs = Annotated[Path, typer.Option("--runs", help="Folder of all runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout and nothing else there.")]
Cluster = Annotated[
    str | None, typer.Option("--cluster", help="Ray cluster for the data stages: an address, or `local`.")
]
Processes = Annotated[
    int | None, typer.Option("--processes", min=1, help="Processes on this machine that train together.")
]
Overrides = Annotated[list[str] | None, typer.Argument(help="Changes to the recipe: stages.tune.learning_rate=1e-4")]
RecipeName = Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe.")]
ApiKeyFile = Annotated[
    Path | None, typer.Option(help="File with the API key that clients must send (or set BAIHUA_API_KEY).")
]
Host = Annotated[str, typer.Option(help="Address to listen on; any but the loopback needs an API key.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of each model; default: all cores.")]
Temperature = Annotated[float, typer.Option(min=0.0, help="Sampling temperature; 0 is greedy.")]
MaxTokens = Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")]
RUNS = Path("runs")
SHIPPED = Path(__file__).resolve().parents[1] / "recipes"


def recipe_file(name: str) -> Path:
    """A recipe by its path, or by its name among the shipped ones."""
    shipped = SHIPPED / f"{name}.yaml"
    return shipped if shipped.is_file() and not Path(name).exists() else Path(name)


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    print(json.dumps(value, ensure_ascii=False))
