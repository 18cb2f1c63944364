"""`baihua check`."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from baihua.cli import options as opt
from baihua.core import kinds
from baihua.core.artifact import part_of
from baihua.core.errors import InputError, RecipeError
from baihua.core.recipe import Recipe, load_recipe
from baihua.core.run import plan
from baihua.core.stage import find_stage
from baihua.core.tables import format_bytes
from baihua.train.plan.machines import TrainingMachine, find_machine

FIGURES = ("memory_bytes", "seconds", "disk_bytes", "cost")
ASSUMPTIONS = ("model", "rows", "tokens_per_row", "target_share")


def check(
    recipe: opt.RecipeName,
    overrides: opt.Overrides = None,
    machine: Annotated[str, typer.Option(help="Machine to run on: this, rtx4090, a100-80gb, ...")] = "this",
    assume: Annotated[
        list[str] | None,
        typer.Option(help="Facts about stages that are not built yet: model=llama-7b, rows=52000, tokens_per_row=128"),
    ] = None,
    runs: opt.Runs = opt.RUNS,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
    extensions: opt.Extensions = None,
) -> None:
    """Validate a recipe, report all its mistakes and estimate its cost; nothing is run or downloaded."""
    try:
        loaded = load_recipe(opt.recipe_file(recipe), overrides)
    except RecipeError as error:
        if not as_json:
            raise
        problems = [asdict(problem) for problem in error.problems]
        opt.print_json({"ok": False, "machine": machine, "currency": None, "problems": problems, "stages": []})
        raise typer.Exit(error.exit_status) from error
    place, stages = _estimate(loaded, runs, machine, dict(map(_assumption, assume or [])))
    if as_json:
        found = {"machine": place.name if place else machine, "currency": place.currency if place else None}
        opt.print_json({"ok": True, **found, "problems": [], "stages": stages})
        return
    print(f"{recipe}: {len(loaded.steps)} stages, no problem found")
    for stage in stages:
        if "unknown" in stage or any(stage[name] is not None for name in FIGURES):
            print(_describe(stage, place))


def _estimate(
    recipe: Recipe, runs: Path, name: str, assumed: Mapping[str, str]
) -> tuple[TrainingMachine | None, list[dict[str, Any]]]:
    """The machine, and each stage's figures on it; a figure that cannot be known yet is None."""
    made = {item.step.name: item.folder for item in plan(recipe, runs) if item.is_reused}
    place: TrainingMachine | None = None
    stages: list[dict[str, Any]] = []
    for step in recipe.steps:
        found: dict[str, Any] = {"name": step.name, "stage": step.stage, "is_built": step.name in made}
        estimate = kinds.member(find_stage(step.stage), "estimate")
        if estimate:
            # Measuring this machine takes a second and torch, so only for stages that need it.
            place = place or find_machine(name)
            built = {role: source for role, source in step.inputs.items() if source.step in made}
            inputs = {role: part_of(made[source.step], source.part) for role, source in built.items()}
            found |= estimate(step.config, inputs, assumed, place)
        stages.append(dict.fromkeys(FIGURES) | found)
    return place, stages


def _describe(stage: Mapping[str, Any], place: TrainingMachine | None) -> str:
    """A stage's figures as text."""
    lines = [f"{stage['name']} ({stage['stage']})"]
    if stage["memory_bytes"] is not None and place:
        size, available = format_bytes(stage["memory_bytes"]), format_bytes(place.memory_bytes)
        verdict = "fits" if stage["fits"] else "DOES NOT FIT"
        how = ", with gradient checkpointing" if stage.get("gradient_checkpointing") else ""
        parts = ", ".join(f"{part} {format_bytes(size)}" for part, size in stage["memory"].items() if size)
        lines += [f"  memory  {size} of {available}: {verdict}{how}", f"          {parts}"]
    if stage["seconds"] is not None:
        lines.append(f"  time    {stage['seconds'] / 3600:.1f} hours, {stage['tokens_per_second']:,.0f} tokens/s")
    if stage["cost"] is not None and place:
        lines.append(f"  cost    {stage['cost']:.2f} {place.currency}")
    lines += [f"  disk    {format_bytes(stage['disk_bytes'])}"] if stage["disk_bytes"] is not None else []
    lines += [f"  assumed {text}" for text in stage.get("assumptions", ())]
    lines += [f"  unknown {stage['unknown']}"] if "unknown" in stage else []
    return "\n".join(lines)


def _assumption(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if name not in ASSUMPTIONS or not value:
        raise InputError(kinds.unknown(name, ASSUMPTIONS, what="assumption"), where="--assume", fix="write NAME=VALUE")
    return name, value
