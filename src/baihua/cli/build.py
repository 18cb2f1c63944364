"""Building a recipe on the command line: a line for each stage, then the report."""

from pathlib import Path

from baihua.cli.options import print_json
from baihua.core.artifact import Artifact
from baihua.core.log import logger
from baihua.core.recipe import Recipe
from baihua.core.run import read_run, run_recipe, summary
from baihua.core.stage import Announce, Result
from baihua.core.tables import render_markdown
from baihua.report.reports import data, run
from baihua.report.results import before_after, read_stages


def build(
    recipe: Recipe, runs: Path, *, as_json: bool, until: str | None = None, announce: Announce | None = None
) -> None:
    """Run a recipe with a line for each stage, then write its report and print the table of its results."""
    results: dict[str, Result] = {}
    for step, result in run_recipe(recipe, runs, until=until, announce=announce):
        results[step.name] = result
        seconds = result.artifact.manifest["seconds"]
        logger.info("%-14s %-12s %s", step.name, step.stage, "reused" if result.is_reused else f"{seconds:,.1f} s")
    folder = runs / recipe.name
    page = run.write(folder)[0]
    for name, result in results.items():
        report_data(result.artifact, folder / f"{name}.html")
    if as_json:
        print_json(summary(recipe.name, results))
        return
    table = before_after(read_stages(read_run(folder)))
    if table:
        print(render_markdown(table))
    print(f"report: {page}")


def report_data(artifact: Artifact, file: Path) -> None:
    """Write the page of an artifact of the stage `inspect`; other stages have none."""
    if artifact.manifest["stage"] == "inspect":
        logger.info("report of the data: %s", data.write(artifact.folder, file))
