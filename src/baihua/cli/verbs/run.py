"""`baihua run`."""

from pathlib import Path
from typing import Annotated

import typer

from baihua.cli import options as opt
from baihua.cli.build import build
from baihua.cli.processes import run_together
from baihua.core.recipe import Recipe, load_recipe
from baihua.core.run import plan
from baihua.core.stage import Announce


def run(
    recipe: opt.RecipeName,
    overrides: opt.Overrides = None,
    until: Annotated[str | None, typer.Option(help="Last stage to run.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print which stages would be made or reused.")] = False,
    runs: opt.Runs = opt.RUNS,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
    cluster: opt.Cluster = None,
    processes: opt.Processes = None,
    extensions: opt.Extensions = None,
) -> None:
    """Build a recipe: unchanged stages are reused, interrupted ones resumed."""
    loaded = load_recipe(opt.recipe_file(recipe), overrides, cluster=cluster)
    if dry_run:
        _print_plan(loaded, runs, as_json=as_json)
        return

    def work(announce: Announce | None) -> None:
        build(loaded, runs, as_json=as_json, until=until, announce=announce)

    run_together(work, processes=processes, debug=debug)


def _print_plan(recipe: Recipe, runs: Path, *, as_json: bool) -> None:
    planned = [
        {"name": item.step.name, "stage": item.step.stage, "id": item.id, "reused": item.is_reused}
        for item in plan(recipe, runs)
    ]
    if as_json:
        opt.print_json({"recipe": recipe.name, "stages": planned})
        return
    for item in planned:
        print(f"{item['name']:<16} {item['stage']:<14} {'reuse' if item['reused'] else 'make'}")
