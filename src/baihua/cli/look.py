"""Verbs that look: show, verify, doctor."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baihua.cli.options import RUNS, Debug, Json, Runs, prepare
from baihua.cli.talk import find_model

if TYPE_CHECKING:
    from baihua.core.artifact import Artifact


def show(
    path: Annotated[
        str, typer.Argument(help="A run, an artifact's folder or a part of one, a .gguf file, or `catalog[:NAME]`.")
    ],
    rows: Annotated[
        int, typer.Option(min=0, help="Print this many conversations, trained text coloured; or tensors of a .gguf.")
    ] = 0,
    dropped: Annotated[str | None, typer.Option(help="Print rows dropped for this reason.")] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Figures of a data set.")] = False,
    template: Annotated[str, typer.Option(help="Chat template used to print rows.")] = "chatml",
    prompt: Annotated[
        Path | None, typer.Option(help="JSON lines with messages: print what the model PATH reads for each.")
    ] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """What made this, down to imported files; a look into its data; or the catalogue of named data sets."""
    from baihua.cli import data_view, gguf_view, prompt_view
    from baihua.cli import rows as rows_view
    from baihua.cli.lineage_view import tree
    from baihua.core.run import lineage

    prepare(debug=debug)
    if path.partition(":")[0] == "catalog" and not Path(path).exists():
        _print_catalog(path.partition(":")[2], as_json=as_json)
    elif prompt is not None:
        prompt_view.print_prompt(Path(find_model(path, runs)), prompt, as_json=as_json)
    elif path.endswith(".gguf"):
        gguf_view.print_gguf(Path(path), num_rows=rows, as_json=as_json)
    elif stats:
        data_view.print_stats(Path(path), as_json=as_json)
    elif rows:
        rows_view.print_rows(Path(path), count=rows, template=template, as_json=as_json)
    elif dropped:
        rows_view.print_dropped(Path(path), reason=dropped, as_json=as_json)
    else:
        found = [lineage(artifact) for artifact in _artifacts(path, runs)]
        print(json.dumps({"artifacts": found}, ensure_ascii=False) if as_json else "\n".join(map(tree, found)))


def _artifacts(path: str, runs: Path) -> "list[Artifact]":
    """The artifacts of a run, or the one that a path is or lies in."""
    from baihua.core.artifact import find_artifact, read_artifact
    from baihua.core.errors import InputError
    from baihua.core.run import find_run

    run = find_run(path, runs)
    if run:
        return [read_artifact(folder) for folder in run.folders.values()]
    found = find_artifact(Path(path))
    if found is None:
        raise InputError(
            "neither a run nor an artifact, nor a path inside one", where=path, fix="name a run or an artifact"
        )
    return [found]


def _print_catalog(name: str, *, as_json: bool) -> None:
    from baihua.core.tables import render_text
    from baihua.data.read import catalog

    entries = {name: catalog.find(name)} if name else catalog.load()
    print(
        catalog.as_json(entries) if as_json else catalog.show_one(name) if name else render_text(catalog.table(entries))
    )


def verify(
    path: Annotated[str, typer.Argument(help="A run, or an artifact's folder.")],
    runs: Runs = RUNS,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare every file of an artifact or run with its manifest."""
    from baihua.core.artifact import differences

    prepare(debug=debug)
    found = {str(artifact.folder): differences(artifact) for artifact in _artifacts(path, runs)}
    is_ok = not any(found.values())
    if as_json:
        print(json.dumps({"ok": is_ok, "artifacts": found}, ensure_ascii=False))
    else:
        for folder, lines in found.items():
            print(f"{'differs' if lines else 'ok':<8} {folder}")
            print("".join(f"         {line}\n" for line in lines), end="")
    raise typer.Exit(0 if is_ok else 1)


def doctor(
    fit: Annotated[
        str | None, typer.Option(metavar="MODEL", help="What runs where: a model folder, a .gguf file or a run.")
    ] = None,
    context: Annotated[int | None, typer.Option(min=1, help="Tokens of context, for --fit.")] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """What this machine can do, what is missing, and the command that fixes it; with --fit what runs where."""
    from baihua.cli.machine import examine

    prepare(debug=debug)
    if fit is not None:
        from baihua.cli.fit_view import print_fit

        print_fit(fit, runs=runs, num_ctx=context, as_json=as_json)
        return
    found = examine(runs)
    if as_json:
        print(json.dumps({"ok": all(item.is_ok for item in found), "checks": [item.as_json() for item in found]}))
    else:
        for item in found:
            print(f"{'ok  ' if item.is_ok else 'MISS'} {item.name:<18} {item.found}")
            print(f"     fix: {item.fix}\n" if not item.is_ok else "", end="")
