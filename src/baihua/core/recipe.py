"""Recipes: named stages that feed each other, validated as a whole before anything runs."""

import difflib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from baihua.core import kinds
from baihua.core.config import Base, apply_override, parse_override
from baihua.core.errors import BaihuaError, InputError, Problem, RecipeError
from baihua.core.files import is_mapping, is_sequence
from baihua.core.stage import STAGES, find_stage

RECIPE_KEYS = ("name", "seed", "serve", "stages")
STORE = "store"
NO_CLUSTER = Problem("--cluster", "no stage here can use a cluster", "leave it out")


@dataclass(frozen=True, slots=True)
class StepInput:
    """An input of a step: the output of another step, or a part of it."""

    step: str
    part: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One named stage of a recipe."""

    name: str
    stage: str
    config: Base
    inputs: dict[str, StepInput]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A valid recipe; every step comes after its inputs."""

    name: str
    steps: list[Step]
    serve: str | None
    tree: dict[str, Any]
    """The recipe as written, with overrides applied."""


def load_recipe(file: Path, overrides: Sequence[str] | None = None, *, cluster: str | None = None) -> Recipe:
    """Read and validate a recipe file with dotted overrides; raises RecipeError with every problem found.

    `cluster` is passed to every stage that can use one.
    """
    return validate(_overridden(_read_tree(file), overrides), folder=file.parent, source=str(file), cluster=cluster)


def validate(tree: dict[str, Any], *, folder: Path, source: str = "", cluster: str | None = None) -> Recipe:
    """Check a whole recipe; relative paths in it start at `folder`."""
    problems = [_unknown_key(str(key), RECIPE_KEYS, where=str(key)) for key in tree if key not in RECIPE_KEYS]
    name, seed, stages, serve = tree.get("name"), tree.get("seed", 0), tree.get("stages"), tree.get("serve")
    if not isinstance(name, str) or not _is_folder_name(name) or name == STORE:
        problems.append(Problem("name", f"expected a name fit for a folder, found {name!r}", "name: my-chatbot"))
    if not isinstance(seed, int) or isinstance(seed, bool):
        problems.append(Problem("seed", f"expected a whole number, found {seed!r}"))
    if not is_mapping(stages) or not stages:
        problems.append(Problem("stages", "expected at least one stage", "stages: {base: {stage: import_model, ...}}"))
        raise RecipeError(problems, source=source)
    names = [str(key) for key in stages]
    if serve is not None and str(serve).partition("/")[0] not in names:
        problems.append(Problem("serve", kinds.unknown(str(serve), names, what="stage")))
    defaults = {"seed": seed, "cluster": cluster} if cluster else {"seed": seed}
    found = [_read_step(key, value, defaults, folder=folder, problems=problems) for key, value in stages.items()]
    steps = {step.name: step for step in found if step}
    for step in steps.values():
        problems += _input_problems(step, steps, names)
    ordered = _order(steps, problems)
    if cluster and not any("cluster" in type(step.config).model_fields for step in steps.values()):
        problems.append(NO_CLUSTER)
    if problems:
        raise RecipeError(problems, source=source)
    return Recipe(str(name), ordered, serve, tree)


def lone_step(stage: str, settings: Sequence[str], *, roles: Sequence[str], cluster: str | None = None) -> Step:
    """A stage outside a recipe, from `key=value` settings; `roles` are the inputs that will be given."""
    problems: list[Problem] = []
    defaults = {"seed": 0, "cluster": cluster} if cluster else {"seed": 0}
    tree = _overridden({"stage": stage}, settings)
    step = _read_step(stage, tree, defaults, folder=Path(), problems=problems)
    inputs = find_stage(stage).INPUTS if step else {}
    problems += [_unknown_key(role, list(inputs), where=f"--in {role}") for role in roles if role not in inputs]
    problems += [
        Problem("--in", f"input {role!r} is missing", f"add --in {role}=PATH")
        for role, wanted in inputs.items()
        if wanted.is_required and role not in roles
    ]
    if step and cluster and "cluster" not in type(step.config).model_fields:
        problems.append(NO_CLUSTER)
    if problems or step is None:
        raise RecipeError(problems, source=f"baihua do {stage}")
    return step


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a duplicate key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys: list[str] = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = sorted(key for key in set(keys) if keys.count(key) > 1)
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"duplicate key: {twice[0]}", node.start_mark)
        return super().construct_mapping(node, deep)


def _read_tree(file: Path) -> dict[str, Any]:
    try:
        tree = yaml.load(file.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError("there is no such recipe", where=str(file), fix="check the path") from error
    except yaml.YAMLError as error:
        raise InputError(f"the recipe is not valid YAML: {error}", where=str(file)) from error
    if not is_mapping(tree):
        raise InputError(f"a recipe must be a mapping, found {type(tree).__name__}", where=str(file))
    return tree


def _overridden(tree: dict[str, Any], overrides: Sequence[str] | None) -> dict[str, Any]:
    for override in overrides or []:
        tree = apply_override(tree, *parse_override(override))
    return tree


def _is_folder_name(name: str) -> bool:
    return name.isprintable() and not set(name) & set('/\\:*?"<>|') and not name.startswith(".") and name != ""


def _read_step(
    name: Any, value: Any, defaults: Mapping[str, Any], *, folder: Path, problems: list[Problem]
) -> Step | None:
    """One stage of a recipe, None if it cannot be read; its problems are added to the list.

    `defaults` are for the fields that the stage has and the recipe leaves out.
    """
    where = f"stages.{name}"
    if not _is_folder_name(str(name)) or "." in str(name):
        # A run's folder has a link of this name, and overrides use the dot.
        problems.append(Problem(where, "a stage's name cannot hold a dot, a slash or any of \\:*?\"<>|", "rename it"))
        return None
    if not is_mapping(value) or not isinstance(value.get("stage"), str):
        problems.append(Problem(where, "expected a mapping with the key `stage`", f"{where}: {{stage: tune, ...}}"))
        return None
    kind = value["stage"]
    if kind not in kinds.names(STAGES):
        problems.append(Problem(f"{where}.stage", kinds.unknown(kind, kinds.names(STAGES), what="stage")))
        return None
    config_class = find_stage(kind).Config
    fields = {key: item for key, item in defaults.items() if key in config_class.model_fields}
    fields |= {key: item for key, item in value.items() if key not in ("stage", "inputs")}
    inputs = _read_inputs(value.get("inputs", {}), where=f"{where}.inputs", problems=problems)
    try:
        config = config_class.model_validate(fields, context={"folder": folder})
    except ValidationError as error:
        problems += [_explain(item, config_class, fields, where) for item in error.errors()]
        return None
    return Step(str(name), kind, config, inputs)


def _read_inputs(value: Any, *, where: str, problems: list[Problem]) -> dict[str, StepInput]:
    if not is_mapping(value):
        problems.append(
            Problem(where, f"expected a mapping from role to stage, found {value!r}", "inputs: {data: raw}")
        )
        return {}
    found: dict[str, StepInput] = {}
    for role, target in value.items():
        if isinstance(target, str):
            step, _, part = target.partition("/")
            found[str(role)] = StepInput(step, part)
        else:
            problems.append(Problem(f"{where}.{role}", f"expected the name of a stage, found {target!r}"))
    return found


def _explain(error: Any, config: type[Base], fields: Mapping[str, Any], where: str) -> Problem:
    """A validation error of pydantic as a problem of the recipe."""
    location, kind, found = error["loc"], error["type"], repr(error["input"])[:80]
    path = ".".join([where, *map(str, location)])
    if kind == "extra_forbidden":
        return _unknown_key(str(location[-1]), _known_keys(config, fields, location[:-1]), where=path)
    if kind == "value_error":
        cause = error["ctx"]["error"]
        if isinstance(cause, BaihuaError):
            return Problem(path, f"{cause.what}: {cause.where}" if cause.where else cause.what, cause.fix)
        return Problem(path, str(cause))
    # The sentence that describes the field.
    field = config.model_fields.get(str(location[0])) if len(location) == 1 else None
    fix = " ".join((field.description or "").split()) if field else ""
    if kind == "missing":
        return Problem(path, "this key is required", fix)
    return Problem(path, f"{error['msg'][:1].lower()}{error['msg'][1:]}, found {found}", fix)


def _known_keys(config: type[Base], fields: Any, path: Sequence[Any]) -> list[str]:
    """The keys that are possible at a path of keys; none where the path cannot be followed."""
    if not path:
        return [*config.model_fields, "stage", "inputs"]
    first, *rest = path
    field = config.model_fields.get(str(first))
    if field is None or not is_mapping(fields):
        return []
    value, notes, below = fields.get(first), field.metadata, field.annotation
    if rest and is_sequence(value):
        # An item of a list: its type carries the note about its kinds.
        below, *notes = get_args(get_args(below)[0]) or get_args(below)
        value, rest = value[rest[0]], rest[1:]
    if rest:
        return []
    package = next((note.package for note in notes if isinstance(note, kinds.KindsOf)), None)
    if package:
        kind = value["kind"] if is_mapping(value) else value
        return list(kinds.find(package, str(kind)).Config.model_fields)
    return list(below.model_fields) if isinstance(below, type) and issubclass(below, Base) else []


def _unknown_key(key: str, known: Sequence[str], *, where: str) -> Problem:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    fix = f"did you mean {near[0]!r}?" if near else f"the known keys are: {', '.join(known)}" if known else ""
    return Problem(where, f"unknown key {key!r}", fix)


def _input_problems(step: Step, steps: Mapping[str, Step], names: Sequence[str]) -> list[Problem]:
    """Inputs that are missing, unknown, or of a kind that the stage cannot use."""
    allowed = find_stage(step.stage).INPUTS
    where = f"stages.{step.name}.inputs"
    problems = [
        Problem(where, f"input {role!r} is missing", f"inputs: {{{role}: STAGE}}")
        for role, wanted in allowed.items()
        if wanted.is_required and role not in step.inputs
    ]
    for role, source in step.inputs.items():
        if role not in allowed:
            problems.append(_unknown_key(role, list(allowed), where=f"{where}.{role}"))
        elif source.step not in names:
            problems.append(Problem(f"{where}.{role}", kinds.unknown(source.step, names, what="stage")))
        elif source.step in steps:
            made = find_stage(steps[source.step].stage).OUTPUT
            if not set(made) & set(allowed[role].kinds):
                what = f"stage {source.step!r} makes {' or '.join(made)}, this input takes"
                problems.append(Problem(f"{where}.{role}", f"{what} {' or '.join(allowed[role].kinds)}"))
    return problems


def _order(steps: Mapping[str, Step], problems: list[Problem]) -> list[Step]:
    """Steps so that each comes after its inputs, otherwise in the written order; a cycle is added to the problems."""
    ordered: dict[str, Step] = {}
    waiting = dict(steps)
    while waiting:
        needs = {name: [i.step for i in step.inputs.values() if i.step in waiting] for name, step in waiting.items()}
        ready = next((name for name, needed in needs.items() if not needed), None)
        if ready is None:
            path = [next(iter(waiting))]
            while path.count(path[-1]) < 2:
                path.append(needs[path[-1]][0])
            cycle = path[path.index(path[-1]) :]
            problems.append(Problem(f"stages.{cycle[0]}.inputs", f"the inputs form a cycle: {' -> '.join(cycle)}"))
            break
        ordered[ready] = waiting.pop(ready)
    return list(ordered.values())
