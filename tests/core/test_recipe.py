"""A recipe is checked whole before anything runs."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from baihua.core.errors import InputError, RecipeError
from baihua.core.recipe import load_recipe, lone_step, validate

pytestmark = pytest.mark.usefixtures("stages")


def write(folder: Path, tree: Any) -> Path:
    file = folder / "recipe.yaml"
    file.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree), encoding="utf-8")
    return file


def recipe(**stages: Any) -> dict[str, Any]:
    return {"name": "test", "stages": {name: {"stage": "note", "text": name} | stage for name, stage in stages.items()}}


def problems(tree: dict[str, Any]) -> dict[str, str]:
    """Each problem's path with its sentence and its fix."""
    with pytest.raises(RecipeError) as caught:
        validate(tree, folder=Path())
    return {problem.where: f"{problem.what} | {problem.fix}" for problem in caught.value.problems}


def test_all_mistakes_appear_at_once_each_with_its_path_and_the_nearest_name() -> None:
    tree = recipe(a={"txt": "x"}, b={"threads": "many"}, c={"stage": "noet"}, d={"inputs": {"before": "aa"}})
    assert problems(tree | {"sed": 3}) == {
        "sed": "unknown key 'sed' | did you mean 'seed'?",
        "stages.a.txt": "unknown key 'txt' | did you mean 'text'?",
        "stages.b.threads": problems(recipe(b={"threads": "many"}))["stages.b.threads"],
        "stages.c.stage": problems(recipe(c={"stage": "noet"}))["stages.c.stage"],
        "stages.d.inputs.before": "unknown stage 'aa'; did you mean 'a'? (known: a, b, c, d) | ",
    }


@pytest.mark.parametrize(
    ("stage", "where", "message"),
    [
        ({"threads": "many"}, "stages.a.threads", "input should be a valid integer.*found 'many' | How many threads."),
        ({"stage": "noet"}, "stages.a.stage", r"unknown stage 'noet'; did you mean 'note'\? \(known: .*"),
        ({"stage": 3}, "stages.a", "expected a mapping with the key `stage`"),
        ({"text": None}, "stages.a.text", "input should be a valid string, found None"),
        ({"inner": {"dpeth": 1}}, "stages.a.inner.dpeth", r"unknown key 'dpeth' \| did you mean 'depth'\?"),
        ({"inputs": ["a"]}, "stages.a.inputs", "expected a mapping from role to stage, found"),
        ({"inputs": {"before": 3}}, "stages.a.inputs.before", "expected the name of a stage, found 3"),
        ({"inputs": {"befor": "a"}}, "stages.a.inputs.befor", r"unknown key 'befor' \| did you mean 'before'\?"),
        ({"zzzzzz": 1}, "stages.a.zzzzzz", r"unknown key 'zzzzzz' \| the known keys are: text,"),
        ({1: 1}, "stages.a.1", "keys should be strings"),
    ],
)
def test_a_mistake_in_a_stage_is_named(stage: dict[str, Any], where: str, message: str) -> None:
    found = problems(recipe(a=stage))
    assert where in found
    assert pytest.RaisesExc(ValueError, match=message).matches(ValueError(found[where])), found


@pytest.mark.parametrize("name", ["..", "a/b", "a.b", "a\nb", 'a"b', "C:", ""])
def test_a_stage_cannot_have_a_name_that_leads_out_of_the_runs_folder(name: str) -> None:
    assert "cannot hold a dot, a slash" in problems(recipe(**{name: {}}))[f"stages.{name}"]


@pytest.mark.parametrize("name", [None, 3, "", "../x", ".hidden", "a:b", "store"])
def test_a_recipe_needs_a_name_fit_for_a_folder(name: object) -> None:
    assert "expected a name fit for a folder" in problems(recipe(a={}) | {"name": name})["name"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", "x", "expected a whole number, found 'x'"),
        ("seed", True, "expected a whole number, found True"),
        ("stages", {}, "expected at least one stage"),
        ("stages", ["a"], "expected at least one stage"),
        ("serve", "b/q8_0", "unknown stage 'b/q8_0'"),
        (7, 1, "unknown key '7'"),
    ],
)
def test_a_mistake_at_the_top_is_named(key: Any, value: object, message: str) -> None:
    assert message in problems(recipe(a={}) | {key: value})[str(key)]


def test_a_missing_setting_is_told_with_its_meaning() -> None:
    tree = {"name": "x", "stages": {"a": {"stage": "note"}}}
    assert problems(tree) == {"stages.a.text": "this key is required | The text."}


def test_a_missing_input_is_named() -> None:
    tree = {"name": "x", "stages": {"a": {"stage": "count"}}}
    assert problems(tree) == {"stages.a.inputs": "input 'note' is missing | inputs: {note: STAGE}"}


def test_an_input_of_the_wrong_kind_is_named() -> None:
    tree = recipe(a={}, b={"stage": "note", "inputs": {"before": "c"}})
    tree["stages"]["c"] = {"stage": "count", "inputs": {"note": "a"}}
    assert problems(tree) == {"stages.b.inputs.before": "stage 'c' makes count, this input takes note | "}


def test_inputs_in_a_circle_are_shown_as_a_circle() -> None:
    tree = recipe(a={"inputs": {"before": "c"}}, b={"inputs": {"before": "a"}}, c={"inputs": {"before": "b/parts"}})
    assert problems(tree) == {"stages.a.inputs": "the inputs form a cycle: a -> c -> b -> a | "}


def test_stages_are_ordered_by_their_inputs_else_as_written() -> None:
    tree = recipe(z={"inputs": {"before": "b"}}, c={}, b={"inputs": {"before": "a"}}, a={})
    assert [step.name for step in validate(tree, folder=Path()).steps] == ["c", "a", "b", "z"]


def test_the_recipes_seed_reaches_stages_that_have_one_and_set_none() -> None:
    steps = validate(recipe(a={}, b={"seed": 5}) | {"seed": 7}, folder=Path()).steps
    assert [step.config.model_dump()["seed"] for step in steps] == [7, 5]


def test_overrides_are_applied_before_checking(tmp_path: Path) -> None:
    file = write(tmp_path, recipe(a={"text": 3}))
    loaded = load_recipe(file, ["stages.a.text=hello", "stages.a.inner.depth=4", "name=other"])
    assert loaded.name == "other"
    assert loaded.tree["stages"]["a"] == {"stage": "note", "text": "hello", "inner": {"depth": 4}}


def test_paths_are_meant_from_the_recipes_folder(tmp_path: Path) -> None:
    loaded = load_recipe(write(tmp_path, recipe(a={"file": "data.txt"})))
    assert loaded.steps[0].config.model_dump()["file"] == str(tmp_path / "data.txt")


def test_a_missing_file_is_told_with_its_place_and_fix(tmp_path: Path) -> None:
    tree = {"name": "x", "stages": {"a": {"stage": "import_data", "files": ["no.jsonl"]}}}
    with pytest.raises(
        RecipeError, match=r"stages\.a\.files\.0: no data files found: .*no\.jsonl\n    fix: name a file"
    ):
        load_recipe(write(tmp_path, tree))


def test_a_misspelt_key_of_a_kind_is_answered_with_the_nearest(tmp_path: Path) -> None:
    stage = {"stage": "import_data", "files": ["starter:"], "format": {"kind": "messages", "colunm": "x"}}
    with pytest.raises(RecipeError, match=r"format\.colunm: unknown key 'colunm'\n    fix: did you mean 'column'\?"):
        load_recipe(write(tmp_path, {"name": "x", "stages": {"a": stage}}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nname: y\n", "not valid YAML: duplicate key: name"),
        ("stages:\n  a: {stage: note}\n  a: {stage: count}\n", "duplicate key: a"),
        ("name: [", "not valid YAML"),
        ("- 1\n", "a recipe must be a mapping, found list"),
        ("", "a recipe must be a mapping, found NoneType"),
        ("name: !!python/object/apply:os.system [ls]\n", "not valid YAML: could not determine a constructor"),
    ],
)
def test_a_recipe_that_is_no_plain_yaml_mapping_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_recipe(write(tmp_path, text))


def test_yaml_anchors_and_merges_work(tmp_path: Path) -> None:
    text = "name: x\nstages:\n  a: &a {stage: note, text: one, seed: 3}\n  b: {<<: *a, text: two}\n"
    steps = load_recipe(write(tmp_path, text)).steps
    assert [(step.config.model_dump()["text"], step.config.model_dump()["seed"]) for step in steps] == [
        ("one", 3),
        ("two", 3),
    ]


def test_a_recipe_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "no.yaml", tmp_path):
        with pytest.raises(InputError, match=r"there is no such recipe\n  where: .*\n  fix:   check the path"):
            load_recipe(path)


def test_a_lone_stage_reads_settings_from_here() -> None:
    step = lone_step("note", ["text=hello", "file=x.txt", "inner.depth=2"], roles=["before"])
    assert step.config.model_dump()["file"] == "x.txt"
    assert step.config.model_dump()["inner"]["depth"] == 2


@pytest.mark.parametrize(
    ("stage", "settings", "roles", "message"),
    [
        ("noet", [], [], r"unknown stage 'noet'; did you mean 'note'\?"),
        ("note", ["text=a"], ["befor"], r"--in befor: unknown key 'befor'\n    fix: did you mean 'before'\?"),
        ("count", [], [], r"--in: input 'note' is missing\n    fix: add --in note=PATH"),
        ("note", [], [], r"stages\.note\.text: this key is required"),
    ],
)
def test_a_mistake_in_a_lone_stage_is_named(stage: str, settings: list[str], roles: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        lone_step(stage, settings, roles=roles)
