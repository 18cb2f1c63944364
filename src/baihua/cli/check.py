"""The verb that spends nothing: is a recipe right, and what would it cost?"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baihua.cli.build import Overrides, recipe_file
from baihua.cli.options import RUNS, Debug, Extensions, Json, Runs, prepare

if TYPE_CHECKING:
    from baihua.core.recipe import Recipe
    from baihua.train.plan.machines import TrainingMachine

FIGURES = ("memory_bytes", "seconds", "disk_bytes", "cost")


def check(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe.")],
    overrides: Overrides = None,
    machine: Annotated[str, typer.Option(help="Where it would run: this, rtx4090, a100-80gb, ...")] = "this",
    assume: Annotated[
        list[str] | None, typer.Option(help="What is not built yet: model=llama-7b, rows=52000, tokens_per_row=128")
    ] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
    debug: Debug = False,
    extensions: Extensions = None,
) -> None:
    """Validate a recipe, show every mistake at once, and estimate what it needs; nothing is run or fetched."""
    from baihua.core.errors import RecipeError
    from baihua.core.recipe import load_recipe

    prepare(debug=debug, extensions=extensions)
    try:
        loaded = load_recipe(recipe_file(recipe), overrides)
    except RecipeError as error:
        if not as_json:
            raise
        problems = [asdict(problem) for problem in error.problems]
        found = {"ok": False, "machine": machine, "currency": None, "problems": problems, "stages": []}
        print(json.dumps(found, ensure_ascii=False))
        raise typer.Exit(error.exit_status) from error
    place, stages = _estimate(loaded, runs, machine, dict(_pair(text) for text in assume or []))
    if as_json:
        currency = place.currency if place else None
        found = {"ok": True, "machine": place.name if place else machine, "currency": currency, "problems": []}
        print(json.dumps(found | {"stages": stages}, ensure_ascii=False))
        return
    print(f"{recipe}: {len(loaded.steps)} stages, no problem found")
    for stage in stages:
        if "unknown" in stage or any(stage[name] is not None for name in FIGURES):
            print(_describe(stage, place))


def _estimate(
    recipe: "Recipe", runs: Path, name: str, assumed: Mapping[str, str]
) -> "tuple[TrainingMachine | None, list[dict[str, Any]]]":
    """The machine, and what each stage needs there; figures that nobody can know yet are missing."""
    from baihua.core.artifact import part_of
    from baihua.core.run import plan
    from baihua.core.stage import find_stage

    made = {item.step.name: item.folder for item in plan(recipe, runs) if item.is_reused}
    place: TrainingMachine | None = None
    stages: list[dict[str, Any]] = []
    for step in recipe.steps:
        found: dict[str, Any] = {"name": step.name, "stage": step.stage, "is_built": step.name in made}
        estimate = vars(find_stage(step.stage)).get("estimate")
        if estimate:
            # Measuring this machine takes a second and torch, so only for stages that need it.
            place = place or _find_machine(name)
            inputs = {
                role: part_of(made[reference.step], reference.part) if reference.part else made[reference.step]
                for role, reference in step.inputs.items()
                if reference.step in made
            }
            found |= estimate(step.config, inputs, assumed, place)
        stages.append(dict.fromkeys(FIGURES) | found)
    return place, stages


def _find_machine(name: str) -> "TrainingMachine":
    from baihua.train.plan.machines import find_machine

    return find_machine(name)


def _describe(stage: Mapping[str, Any], place: "TrainingMachine | None") -> str:
    """A stage's figures for people."""
    lines = [f"{stage['name']} ({stage['stage']})"]
    if stage["memory_bytes"] is not None and place:
        verdict = "fits" if stage["fits"] else "DOES NOT FIT"
        lines.append(
            f"  memory  {_gb(stage['memory_bytes'])} of {_gb(place.memory_bytes)}: {verdict}"
            + (", with gradient checkpointing" if stage.get("gradient_checkpointing") else "")
        )
        lines.append("          " + ", ".join(f"{part} {_gb(size)}" for part, size in stage["memory"].items() if size))
    if stage["seconds"] is not None:
        lines.append(f"  time    {stage['seconds'] / 3600:.1f} hours, {stage['tokens_per_second']:,.0f} tokens/s")
    if stage["cost"] is not None and place:
        lines.append(f"  cost    {stage['cost']:.2f} {place.currency}")
    lines += [f"  disk    {_gb(stage['disk_bytes'])}"] if stage["disk_bytes"] is not None else []
    lines += [f"  assumed {text}" for text in stage.get("assumptions", ())]
    lines += [f"  unknown {stage['unknown']}"] if "unknown" in stage else []
    return "\n".join(lines)


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def _pair(text: str) -> tuple[str, str]:
    from baihua.core import kinds
    from baihua.core.errors import InputError

    names = ("model", "rows", "tokens_per_row", "target_share")
    name, _, value = text.partition("=")
    if name not in names or not value:
        raise InputError(kinds.unknown(name, list(names), what="assumption"), where="--assume", fix="write NAME=VALUE")
    return name, value
