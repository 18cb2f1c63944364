"""What the user reads when something is wrong."""

import pytest

from baihua.core.errors import BaihuaError, InputError, Problem, RecipeError, RunError, TooLongError


def test_an_error_is_one_block_of_what_where_and_fix() -> None:
    error = InputError("no such file", where="a.jsonl", fix="check the path")
    assert str(error).splitlines() == ["no such file", "  where: a.jsonl", "  fix:   check the path"]


def test_an_error_without_place_and_fix_is_one_line() -> None:
    assert str(RunError("the loss is not a number")) == "the loss is not a number"


@pytest.mark.parametrize(
    ("kind", "status"), [(BaihuaError, 1), (RunError, 1), (InputError, 2), (TooLongError, 2), (RecipeError, 2)]
)
def test_the_exit_status_says_whose_fault_it_is(kind: type[BaihuaError], status: int) -> None:
    assert kind.exit_status == status


def test_a_recipe_error_shows_every_problem_with_its_path_and_fix() -> None:
    error = RecipeError([Problem("name", "missing"), Problem("stages.a.x", "unknown", "drop it")], source="r.yaml")
    assert str(error).splitlines() == [
        "the recipe has 2 problems (r.yaml)",
        "  name: missing",
        "  stages.a.x: unknown",
        "    fix: drop it",
    ]


def test_errors_are_value_errors_so_that_validators_may_raise_them() -> None:
    assert issubclass(BaihuaError, ValueError)
