"""`baihua do`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from baihua.cli import options as opt
from baihua.cli.build import report_data
from baihua.cli.processes import run_together
from baihua.core.errors import InputError
from baihua.core.recipe import lone_step
from baihua.core.run import given_path, summary
from baihua.core.stage import Announce, Result, run_into


def do(
    stage: Annotated[str, typer.Argument(help="A stage, such as import_data or tune.")],
    settings: Annotated[list[str] | None, typer.Argument(help="Its settings: key=value")] = None,
    inputs: Annotated[list[str] | None, typer.Option("--in", help="role=PATH, a file, folder or artifact.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write to; new or empty.")] = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
    cluster: opt.Cluster = None,
    processes: opt.Processes = None,
    extensions: opt.Extensions = None,
) -> None:
    """Run one stage on plain files and folders."""
    if out is None:
        raise InputError("the output folder is missing", where="--out", fix="add --out DIR")
    paths = dict(_role_and_path(text) for text in inputs or [])
    step = lone_step(stage, settings or [], roles=list(paths), cluster=cluster)
    given = {role: given_path(path, role) for role, path in paths.items()}

    def work(announce: Announce | None) -> None:
        artifact = run_into(stage, step.config, given, out, announce=announce)
        report_data(artifact, out.with_name(f"{out.name}.html"))
        if as_json:
            opt.print_json(summary(stage, {stage: Result(artifact, is_reused=False)}))
            return
        for name, value in artifact.manifest["metrics"].items():
            print(f"{name}: {json.dumps(value, ensure_ascii=False)}")

    run_together(work, processes=processes, debug=debug)


def _role_and_path(text: str) -> tuple[str, Path]:
    role, _, path = text.partition("=")
    if not role or not path:
        raise InputError(f"cannot read the input {text!r}", where="--in", fix="write it as role=PATH")
    return role, Path(path)
