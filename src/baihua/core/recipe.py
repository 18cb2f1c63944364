"""A recipe names stages and how they feed each other; it is checked whole before anything runs."""

import difflib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from baihua.core import kinds
from baihua.core.config import Base, apply_override, is_config_class, parse_override
from baihua.core.errors import BaihuaError, InputError, Problem, RecipeError
from baihua.core.stage import STAGES, Stage, find_stage
from baihua.core.tree import is_mapping, is_sequence

RECIPE_KEYS = ("name", "seed", "serve", "stages")
STORE = "store"


@dataclass(frozen=True, slots=True)
class Reference:
    """An input of a step: another step, and a part of what it makes or the whole."""

    step: str
    part: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One named stage of a recipe."""

    name: str
    stage: str
    config: Base
    inputs: dict[str, Reference]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A valid recipe; its steps are in an order in which they can run."""

    name: str
    steps: list[Step]
    serve: str | None
    tree: dict[str, Any]
    """The recipe as written, overrides applied."""


def load_recipe(file: Path, overrides: list[str] | None = None, *, cluster: str | None = None) -> Recipe:
    """Read and validate a recipe file with dotted overrides; raises RecipeError with every problem found.

    `cluster` is given to every stage that can work on one.
    """
    tree = _read_tree(file)
    for override in overrides or []:
        path, value = parse_override(override)
        tree = apply_override(tree, path, value)
    return validate(tree, folder=file.parent, source=str(file), cluster=cluster)


def validate(tree: dict[str, Any], *, folder: Path, source: str = "", cluster: str | None = None) -> Recipe:
    """Check a whole recipe; paths in it are meant from `folder`."""
    problems = [_unknown_key(str(key), RECIPE_KEYS, where=str(key)) for key in tree if key not in RECIPE_KEYS]
    name, seed, stages = tree.get("name"), tree.get("seed", 0), tree.get("stages")
    if not isinstance(name, str) or not _is_folder_name(name) or name == STORE:
        problems.append(Problem("name", f"expected a name fit for a folder, found {name!r}", "name: my-chatbot"))
    if not isinstance(seed, int) or isinstance(seed, bool):
        problems.append(Problem("seed", f"expected a whole number, found {seed!r}"))
    if not is_mapping(stages) or not stages:
        problems.append(Problem("stages", "expected at least one stage", "stages: {base: {stage: import_model, ...}}"))
        raise RecipeError(problems, source=source)
    defaults = {"seed": seed} | ({"cluster": cluster} if cluster else {})
    steps = [_step(key, value, defaults=defaults, folder=folder, problems=problems) for key, value in stages.items()]
    known = {step.name: step for step in steps if step}
    for step in known.values():
        problems += _input_problems(step, known, all_names=[str(key) for key in stages])
    serve = tree.get("serve")
    if serve is not None and str(serve).partition("/")[0] not in stages:
        problems.append(Problem("serve", kinds.unknown(str(serve), [str(key) for key in stages], what="stage")))
    ordered, cycle = _order(known)
    if cycle:
        problems.append(Problem(f"stages.{cycle[0]}.inputs", f"the inputs go in a circle: {' -> '.join(cycle)}"))
    if cluster and not any(_can_use_cluster(step) for step in known.values()):
        problems.append(_no_cluster())
    if problems:
        raise RecipeError(problems, source=source)
    return Recipe(str(name), ordered, serve, tree)


def _read_tree(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError("there is no such recipe", where=str(file), fix="check the path") from error
    try:
        tree = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise InputError(f"the recipe is not valid YAML: {error}", where=str(file)) from error
    if not is_mapping(tree):
        raise InputError(f"a recipe is a mapping, found {type(tree).__name__}", where=str(file))
    return tree


def _is_folder_name(name: str) -> bool:
    return name.isprintable() and not set(name) & set('/\\:*?"<>|') and not name.startswith(".") and name != ""


class _StrictLoader(yaml.SafeLoader):
    """YAML without the silent loss of a key that is written twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys: list[str] = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = sorted(key for key in set(keys) if keys.count(key) > 1)
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"key written twice: {twice[0]}", node.start_mark)
        return super().construct_mapping(node, deep)


def _step(name: Any, value: Any, *, defaults: Mapping[str, Any], folder: Path, problems: list[Problem]) -> Step | None:
    """One stage of a recipe; problems are added to the list, None if it cannot be understood.

    `defaults` are for the stages that have such a field.
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
    stage = find_stage(kind)
    fields = {key: item for key, item in value.items() if key not in ("stage", "inputs")}
    fields = {key: item for key, item in defaults.items() if key in stage.Config.model_fields} | fields
    inputs = _references(value.get("inputs", {}), where=f"{where}.inputs", problems=problems)
    config = _config(stage, fields, where=where, folder=folder, problems=problems)
    return Step(str(name), kind, config, inputs) if config else None


def _references(value: Any, *, where: str, problems: list[Problem]) -> dict[str, Reference]:
    if not is_mapping(value):
        what = f"expected a mapping from role to stage, found {value!r}"
        problems.append(Problem(where, what, "inputs: {data: raw}"))
        return {}
    for role, target in value.items():
        if not isinstance(target, str):
            problems.append(Problem(f"{where}.{role}", f"expected the name of a stage, found {target!r}"))
    pairs = {str(role): target.partition("/") for role, target in value.items() if isinstance(target, str)}
    return {role: Reference(step, part) for role, (step, _, part) in pairs.items()}


def _config(
    stage: Stage, fields: Mapping[str, Any], *, where: str, folder: Path, problems: list[Problem]
) -> Base | None:
    try:
        return stage.Config.model_validate(fields, context={"folder": folder})
    except ValidationError as error:
        problems += [_translate(item, stage.Config, fields, where) for item in error.errors()]
        return None


def _translate(error: Any, config: type[Base], fields: Mapping[str, Any], where: str) -> Problem:
    """One pydantic error in our words."""
    path = ".".join([where, *map(str, error["loc"])])
    found = repr(error["input"])[:80]
    if error["type"] == "extra_forbidden":
        return _unknown_key(str(error["loc"][-1]), _known_keys(config, fields, error["loc"][:-1]), where=path)
    if error["type"] == "missing":
        return Problem(path, "this key is needed", _help(config, error["loc"]))
    if error["type"] == "value_error":
        return _translate_value_error(error["ctx"]["error"], path)
    if error["type"] == "kind":
        return Problem(path, error["msg"])
    return Problem(path, f"{error['msg'][:1].lower()}{error['msg'][1:]}, found {found}", _help(config, error["loc"]))


def _translate_value_error(error: ValueError, path: str) -> Problem:
    """What a validator of ours refused."""
    if isinstance(error, BaihuaError):
        return Problem(path, f"{error.what}: {error.where}" if error.where else error.what, error.fix)
    return Problem(path, str(error))


def _known_keys(config: type[Base], fields: Any, path: tuple[Any, ...]) -> list[str]:
    """The keys that are possible where a path of keys leads; none where the path cannot be followed."""
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
    return list(below.model_fields) if is_config_class(below) else []


def _help(config: type[Base], path: tuple[Any, ...]) -> str:
    """The sentence that describes a field, if it is one of this config's own."""
    field = config.model_fields.get(str(path[0])) if len(path) == 1 else None
    return " ".join((field.description or "").split()) if field else ""


def _unknown_key(key: str, known: tuple[str, ...] | list[str], *, where: str) -> Problem:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    fix = f"did you mean {near[0]!r}?" if near else f"the known keys are: {', '.join(known)}" if known else ""
    return Problem(where, f"unknown key {key!r}", fix)


def _input_problems(step: Step, known: Mapping[str, Step], *, all_names: list[str]) -> list[Problem]:
    """Inputs that are missing, unknown, or of a kind that the stage cannot use."""
    roles = find_stage(step.stage).INPUTS
    where = f"stages.{step.name}.inputs"
    problems = [
        Problem(where, f"input {role!r} is missing", f"inputs: {{{role}: STAGE}}")
        for role, wanted in roles.items()
        if wanted.is_needed and role not in step.inputs
    ]
    for role, reference in step.inputs.items():
        if role not in roles:
            problems.append(_unknown_key(role, list(roles), where=f"{where}.{role}"))
        elif reference.step not in all_names:
            problems.append(Problem(f"{where}.{role}", kinds.unknown(reference.step, all_names, what="stage")))
        elif reference.step in known:
            made = find_stage(known[reference.step].stage).OUTPUT
            if not set(made) & set(roles[role].kinds):
                what = f"stage {reference.step!r} makes {' or '.join(made)}, this input takes"
                problems.append(Problem(f"{where}.{role}", f"{what} {' or '.join(roles[role].kinds)}"))
    return problems


def _order(steps: Mapping[str, Step]) -> tuple[list[Step], list[str]]:
    """Steps so that each comes after its inputs, in the written order where that is free; or a circle of names."""
    ordered: list[Step] = []
    waiting = dict(steps)
    while waiting:
        done = {step.name for step in ordered}
        ready = [s for s in waiting.values() if all(r.step in done or r.step not in steps for r in s.inputs.values())]
        if not ready:
            return ordered, _circle(waiting)
        ordered.append(ready[0])
        del waiting[ready[0].name]
    return ordered, []


def _circle(steps: Mapping[str, Step]) -> list[str]:
    """Names along one circle among steps of which each waits for another."""
    path = [next(iter(steps))]
    while path.count(path[-1]) < 2:
        path.append(next(r.step for r in steps[path[-1]].inputs.values() if r.step in steps))
    return path[path.index(path[-1]) :]


def lone_step(stage: str, settings: list[str], *, roles: list[str], cluster: str | None = None) -> Step:
    """A stage outside any recipe, from `key=value` settings; `roles` are the inputs that will be given."""
    tree: dict[str, Any] = {"stage": stage}
    for setting in settings:
        path, value = parse_override(setting)
        tree = apply_override(tree, path, value)
    problems: list[Problem] = []
    defaults = {"seed": 0} | ({"cluster": cluster} if cluster else {})
    step = _step(stage, tree, defaults=defaults, folder=Path(), problems=problems)
    inputs = find_stage(stage).INPUTS if step else {}
    problems += [_unknown_key(role, list(inputs), where=f"--in {role}") for role in roles if role not in inputs]
    problems += [
        Problem("--in", f"input {role!r} is missing", f"add --in {role}=PATH")
        for role, wanted in inputs.items()
        if wanted.is_needed and role not in roles
    ]
    if step and cluster and not _can_use_cluster(step):
        problems.append(_no_cluster())
    if problems or step is None:
        raise RecipeError(problems, source=f"baihua do {stage}")
    return step


def _can_use_cluster(step: Step) -> bool:
    return "cluster" in type(step.config).model_fields


def _no_cluster() -> Problem:
    return Problem("--cluster", "no stage here can work on a cluster", "leave it out")
