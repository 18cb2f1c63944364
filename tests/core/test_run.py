"""A recipe becomes a run: stages.json, links, reuse, lineage, and what may be removed."""

import json
from pathlib import Path
from typing import Any

import pytest

from baihua.core.artifact import find_artifact, read_artifact
from baihua.core.errors import InputError
from baihua.core.recipe import Recipe, validate
from baihua.core.run import (
    find_run,
    given_path,
    lineage,
    plan,
    remove,
    run_recipe,
    served_model,
    summary,
    unneeded,
)

pytestmark = pytest.mark.usefixtures("stages")


def three_notes(name: str = "test", **first: Any) -> Recipe:
    stages = {
        "a": {"stage": "note", "text": "a"} | first,
        "b": {"stage": "note", "text": "b", "inputs": {"before": "a/parts"}},
        "c": {"stage": "note", "text": "c", "inputs": {"before": "b"}},
    }
    return validate({"name": name, "stages": stages}, folder=Path())


def run(recipe: Recipe, runs: Path, until: str | None = None) -> dict[str, bool]:
    """Each step that ran and whether it was reused."""
    return {step.name: result.is_reused for step, result in run_recipe(recipe, runs, until=until)}


def made(name: str, runs: Path) -> dict[str, Path]:
    found = find_run(name, runs)
    assert found is not None
    return found.folders


def test_each_stage_reads_what_the_one_before_wrote(tmp_path: Path) -> None:
    run(three_notes(), tmp_path)
    assert (made("test", tmp_path)["c"] / "note.txt").read_text(encoding="utf-8") == "abc"


def test_stages_json_names_the_folder_of_every_step(tmp_path: Path) -> None:
    results = {step.name: result for step, result in run_recipe(three_notes(), tmp_path)}
    written = json.loads((tmp_path / "test" / "stages.json").read_text(encoding="utf-8"))
    assert written == summary("test", results, relative_to=tmp_path / "test")
    assert [stage["name"] for stage in written["stages"]] == ["a", "b", "c"]
    assert set(written["stages"][0]) == {"name", "stage", "id", "folder", "reused", "seconds", "metrics"}


def test_a_run_can_be_moved_with_its_store(tmp_path: Path) -> None:
    run(three_notes(), tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    assert all(folder.is_dir() for folder in made("test", tmp_path / "new").values())


def test_there_is_a_link_per_step(tmp_path: Path) -> None:
    run(three_notes(), tmp_path)
    assert (tmp_path / "test" / "b").resolve() == made("test", tmp_path)["b"]


def test_a_folder_of_the_users_in_a_links_place_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "test" / "b").mkdir(parents=True)
    (tmp_path / "test" / "b" / "mine.txt").touch()
    run(three_notes(), tmp_path)
    assert (tmp_path / "test" / "b" / "mine.txt").exists()


def test_what_is_unchanged_is_reused_and_what_follows_a_change_is_not(tmp_path: Path) -> None:
    assert run(three_notes(), tmp_path) == {"a": False, "b": False, "c": False}
    assert run(three_notes(), tmp_path) == {"a": True, "b": True, "c": True}
    assert run(three_notes(text="A"), tmp_path) == {"a": False, "b": False, "c": False}


def test_the_plan_says_what_the_run_will_do(tmp_path: Path) -> None:
    run(three_notes(), tmp_path, until="b")
    planned = list(plan(three_notes(), tmp_path))
    assert [item.is_reused for item in planned] == [True, True, False]
    run(three_notes(), tmp_path)
    assert [item.folder.resolve() for item in planned] == list(made("test", tmp_path).values())


def test_until_runs_a_stage_and_what_it_needs(tmp_path: Path) -> None:
    stages = {"x": {"stage": "note", "text": "x"}, "y": {"stage": "note", "text": "y"}}
    stages["z"] = {"stage": "note", "text": "z", "inputs": {"before": "y"}}  # type: ignore[dict-item]
    recipe = validate({"name": "test", "stages": stages}, folder=Path())
    assert list(run(recipe, tmp_path, until="z")) == ["y", "z"]
    with pytest.raises(InputError, match=r"unknown stage 'zz'; did you mean 'z'\? .*\n  where: --until"):
        run(recipe, tmp_path, until="zz")


def test_a_part_that_is_not_there_is_named(tmp_path: Path) -> None:
    recipe = validate(
        {
            "name": "test",
            "stages": {
                "a": {"stage": "note", "text": "a"},
                "b": {"stage": "note", "text": "b", "inputs": {"before": "a/heldout"}},
            },
        },
        folder=Path(),
    )
    with pytest.raises(InputError, match="no part 'heldout' here; the parts are: parts, note"):
        run(recipe, tmp_path)


def test_lineage_leads_down_to_the_first_artifact(tmp_path: Path) -> None:
    run(three_notes(), tmp_path)
    tree = lineage(read_artifact(made("test", tmp_path)["c"]))
    first = tree["inputs"]["before"]["inputs"]["before"]
    assert (tree["stage"], first["metrics"], first["inputs"]) == ("note", {"num_chars": 1}, {})


def test_lineage_names_a_file_that_is_no_artifact(tmp_path: Path) -> None:
    from baihua.core.stage import find_stage, run_into

    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "note.txt").write_text("g", encoding="utf-8")
    given = given_path(tmp_path / "given", "before")
    run_into("note", find_stage("note").Config.model_validate({"text": "x"}), {"before": given}, tmp_path / "out")
    assert lineage(read_artifact(tmp_path / "out"))["inputs"]["before"]["content"] == "given"


def test_a_plain_path_counts_by_what_it_holds(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.txt").write_text("same", encoding="utf-8")
    assert given_path(tmp_path / "a").id == given_path(tmp_path / "b").id
    assert given_path(tmp_path / "a" / "x.txt").id != given_path(tmp_path / "a").id
    with pytest.raises(
        InputError, match=r"no such file or folder\n  where: .*\n  fix:   check the path given for 'data'"
    ):
        given_path(tmp_path / "no", "data")


def test_an_artifact_given_by_path_keeps_its_identity(tmp_path: Path) -> None:
    run(three_notes(), tmp_path)
    folder = made("test", tmp_path)["a"]
    assert given_path(folder).id == read_artifact(folder).id


def test_an_artifact_is_found_from_inside_it(tmp_path: Path) -> None:
    run(three_notes(), tmp_path)
    folder = made("test", tmp_path)["a"]
    for inside in (folder, folder / "parts", folder / "parts" / "note.txt", tmp_path / "test" / "a"):
        assert find_artifact(inside) == read_artifact(folder)
    assert find_artifact(folder / "parts", max_depth=0) is None
    assert find_artifact(tmp_path) is None


def test_a_manifest_of_another_program_makes_no_artifact(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "a web app"}', encoding="utf-8")
    assert find_artifact(tmp_path) is None
    assert given_path(tmp_path).id != ""


def add_model(runs: Path, step: str, *names: str) -> None:
    for number, name in enumerate(names, start=1):
        (made("test", runs)[step] / name).write_text("x" * number, encoding="utf-8")


def serving(runs: Path, serve: str | None) -> Path:
    recipe = three_notes()
    list(run_recipe(validate(recipe.tree | ({"serve": serve} if serve else {}), folder=Path()), runs))
    found = find_run("test", runs)
    assert found is not None
    return served_model(found)


def test_a_run_serves_what_its_recipe_says(tmp_path: Path) -> None:
    run(three_notes(), tmp_path)
    add_model(tmp_path, "a", "model-f16.gguf", "model-q8_0.gguf")
    assert serving(tmp_path, "a/q8_0").name == "model-q8_0.gguf"
    assert serving(tmp_path, "b") == made("test", tmp_path)["b"]


def test_a_run_serves_its_last_model_the_smallest_gguf_first(tmp_path: Path) -> None:
    run(three_notes(), tmp_path)
    with pytest.raises(InputError, match=r"has not made a model yet\n.*\n  fix:   run its recipe to the end"):
        serving(tmp_path, None)
    add_model(tmp_path, "a", "config.json")
    assert serving(tmp_path, None) == made("test", tmp_path)["a"]
    add_model(tmp_path, "b", "model-q8_0.gguf", "model-f16.gguf")
    assert serving(tmp_path, None).name == "model-q8_0.gguf"


def test_a_model_that_is_not_built_yet_cannot_be_served(tmp_path: Path) -> None:
    recipe = validate(three_notes().tree | {"serve": "c"}, folder=Path())
    run(recipe, tmp_path, until="a")
    found = find_run("test", tmp_path)
    assert found is not None
    with pytest.raises(InputError, match="the recipe serves 'c', which is not built yet"):
        served_model(found)


def test_what_no_kept_run_needs_can_go_and_nothing_else(tmp_path: Path) -> None:
    run(three_notes("keep"), tmp_path)
    run(three_notes("drop", text="other"), tmp_path)
    (tmp_path / "store" / "note-0123.partial").mkdir()
    (tmp_path / "store" / "calls").mkdir()
    gone = unneeded(tmp_path, ["keep"])
    assert {folder.name for folder in gone} >= {"drop", "note-0123.partial"}
    assert not {folder.resolve() for folder in gone} & set(made("keep", tmp_path).values())
    remove(gone)
    assert run(three_notes("keep"), tmp_path) == {"a": True, "b": True, "c": True}
    assert (tmp_path / "store" / "calls").is_dir()
    assert find_run("drop", tmp_path) is None


def test_keeping_a_run_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no run 'demo'\n.*\n  fix:   give the name of a folder in there"):
        unneeded(tmp_path, ["demo"])


def test_nothing_is_unneeded_where_nothing_is(tmp_path: Path) -> None:
    assert unneeded(tmp_path / "nowhere", []) == []
