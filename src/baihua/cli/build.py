"""Verbs that make things: demo, run, do."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baihua.cli.options import RUNS, Cluster, Debug, Extensions, Json, Processes, Runs, prepare
from baihua.cli.processes import run_together

if TYPE_CHECKING:
    from baihua.core.artifact import Artifact
    from baihua.core.recipe import Recipe
    from baihua.core.stage import Announce, Result

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
Overrides = Annotated[list[str] | None, typer.Argument(help="Changes to the recipe: stages.tune.learning_rate=1e-4")]


def demo(
    overrides: Overrides = None,
    serve: Annotated[bool, typer.Option("--serve", help="Serve it afterwards, and open its page.")] = False,
    runs: Runs = RUNS,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Build and measure a small Chinese chatbot on this machine, then talk to it."""
    from baihua.cli.serve import serve as start_server
    from baihua.cli.talk import sample_replies, start_chat
    from baihua.core.recipe import load_recipe

    prepare(debug=debug)
    recipe = load_recipe(RECIPES / "demo.yaml", overrides)
    _build(recipe, runs, as_json=as_json)
    if as_json:
        return
    if serve:
        start_server([recipe.name], open_page=True, runs=runs, debug=debug)
    elif sys.stdin.isatty() and sys.stdout.isatty():
        start_chat(recipe.name, runs=runs)
    else:
        sample_replies(recipe.name, runs=runs)


def run(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe.")],
    overrides: Overrides = None,
    until: Annotated[str | None, typer.Option(help="Stop after this stage of the recipe.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be made or reused.")] = False,
    runs: Runs = RUNS,
    as_json: Json = False,
    debug: Debug = False,
    cluster: Cluster = None,
    processes: Processes = None,
    extensions: Extensions = None,
) -> None:
    """Build a recipe; what is unchanged is reused, what was interrupted goes on."""
    from baihua.core.recipe import load_recipe

    prepare(debug=debug, extensions=extensions)
    loaded = load_recipe(recipe_file(recipe), overrides, cluster=cluster)
    if dry_run:
        _show_plan(loaded, runs, as_json=as_json)
        return

    def work(announce: "Announce | None") -> None:
        _build(loaded, runs, as_json=as_json, until=until, announce=announce)

    run_together(work, processes=processes, debug=debug)


def do(
    stage: Annotated[str, typer.Argument(help="A stage, such as import_data or tune.")],
    settings: Annotated[list[str] | None, typer.Argument(help="Its settings: key=value")] = None,
    inputs: Annotated[list[str] | None, typer.Option("--in", help="role=PATH, a file, folder or artifact.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write.")] = None,
    as_json: Json = False,
    debug: Debug = False,
    cluster: Cluster = None,
    processes: Processes = None,
    extensions: Extensions = None,
) -> None:
    """Run one stage on plain files and folders."""
    from baihua.core.errors import InputError
    from baihua.core.recipe import lone_step
    from baihua.core.run import given_path, summary
    from baihua.core.stage import Result, run_into

    prepare(debug=debug, extensions=extensions)
    if out is None:
        raise InputError("the folder to write is missing", where="--out", fix="add --out DIR")
    paths = dict(_role_and_path(text) for text in inputs or [])
    step = lone_step(stage, settings or [], roles=list(paths), cluster=cluster)
    given = {role: given_path(path, role) for role, path in paths.items()}

    def work(announce: "Announce | None") -> None:
        artifact = run_into(stage, step.config, given, out, announce=announce)
        _report_data(artifact, out.with_name(f"{out.name}.html"))
        found = summary(stage, {stage: Result(artifact, is_reused=False)})
        print(json.dumps(found, ensure_ascii=False) if as_json else _figures(artifact.manifest["metrics"]))

    run_together(work, processes=processes, debug=debug)


def recipe_file(name: str) -> Path:
    """A recipe by its path, or by its name among the shipped ones."""
    shipped = RECIPES / f"{name}.yaml"
    return shipped if shipped.is_file() and not Path(name).exists() else Path(name)


def _build(
    recipe: "Recipe", runs: Path, *, as_json: bool, until: str | None = None, announce: "Announce | None" = None
) -> None:
    """Run a recipe with a line per stage, then write its report and print its table."""
    from baihua.core.log import logger
    from baihua.core.run import run_recipe, summary
    from baihua.report.reports.run import write

    results: dict[str, Result] = {}
    for step, result in run_recipe(recipe, runs, until=until, announce=announce):
        results[step.name] = result
        seconds = result.artifact.manifest["seconds"]
        logger.info("%-14s %-12s %s", step.name, step.stage, "reused" if result.is_reused else f"{seconds:,.1f} s")
    files = write(runs / recipe.name)
    for name, result in results.items():
        _report_data(result.artifact, runs / recipe.name / f"{name}.html")
    found = summary(recipe.name, results)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    _print_before_after(runs / recipe.name)
    print(f"report: {files[0]}")


def _report_data(artifact: "Artifact", file: Path) -> None:
    """The page of an inspection of data."""
    from baihua.core.log import logger
    from baihua.report.reports.data import write

    if artifact.manifest["stage"] == "inspect":
        logger.info("a look at the data: %s", write(artifact.folder, file))


def _print_before_after(folder: Path) -> None:
    """The table of the report, for a terminal."""
    from baihua.core.tables import render_markdown
    from baihua.report.before_after import before_after
    from baihua.report.run_folder import read_run

    rows = before_after(read_run(folder).stages)
    if rows:
        print(render_markdown(rows))


def _show_plan(recipe: "Recipe", runs: Path, *, as_json: bool) -> None:
    from baihua.core.run import plan

    planned = [
        {"name": item.step.name, "stage": item.step.stage, "id": item.id, "reused": item.is_reused}
        for item in plan(recipe, runs)
    ]
    if as_json:
        print(json.dumps({"recipe": recipe.name, "stages": planned}, ensure_ascii=False))
        return
    for item in planned:
        print(f"{item['name']:<16} {item['stage']:<14} {'reuse' if item['reused'] else 'make'}")


def _figures(metrics: dict[str, Any]) -> str:
    return "\n".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in metrics.items())


def _role_and_path(text: str) -> tuple[str, Path]:
    from baihua.core.errors import InputError

    role, sign, path = text.partition("=")
    if not sign or not role or not path:
        raise InputError(f"cannot read the input {text!r}", where="--in", fix="write it as role=PATH")
    return role, Path(path)
