"""The folder is the registry, and a user's folder adds to it."""

from collections.abc import Iterator
from pathlib import Path

import fakes
import pytest
from fakes import NOTE_STAGE
from pydantic import ValidationError

import baihua
from baihua.core import kinds
from baihua.core.config import Base
from baihua.core.errors import InputError
from baihua.core.kinds import OneOf
from baihua.core.recipe import validate
from baihua.core.stage import identity

FORMATS = "baihua.data.formats"
LINES_FORMAT = '''
"""One text per record."""
from typing import Literal
from baihua.chat.types import Message
from baihua.core.config import Base

EXAMPLE = {"q": "?", "a": "!"}

class Config(Base):
    """A question and an answer."""
    kind: Literal["pairs"] = "pairs"
    """The name of this format."""

def convert(record, config):
    return [[Message("user", record["q"]), Message("assistant", record["a"])]]
'''


class Reader(Base):
    """A config with a format inside."""

    format: OneOf(FORMATS)  # pyright: ignore[reportInvalidTypeForm]
    """Which."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder of extensions that is taken back afterwards."""
    yield tmp_path
    fakes.take_back(tmp_path)


def test_the_kinds_are_the_files_of_the_folder() -> None:
    files = (Path(baihua.__file__).parent / "data" / "formats").glob("*.py")
    assert kinds.names(FORMATS) == sorted(file.stem for file in files if file.stem != "__init__")


def test_an_unknown_kind_is_answered_with_the_nearest_and_all_known_ones() -> None:
    with pytest.raises(
        InputError, match=r"unknown format 'alpacca'; did you mean 'alpaca'\? \(known: alpaca, .*text\)"
    ):
        kinds.find(FORMATS, "alpacca")


def test_a_name_like_nothing_known_gets_no_hint() -> None:
    assert kinds.unknown("zzz", ["a"], what="stage") == "unknown stage 'zzz' (known: a)"
    assert kinds.unknown("zzz", [], what="stage").endswith("(known: none)")


def test_a_kind_may_be_named_alone_or_with_its_settings() -> None:
    module = kinds.find(FORMATS, "messages")
    for value in ("messages", {"kind": "messages"}, module.Config()):
        assert Reader.model_validate({"format": value}).format == module.Config()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"column": "x"}, "needs a `kind`, one of: alpaca,"),
        (3, "needs a `kind`"),
        ({"kind": 3}, "needs a `kind`"),
        ("{x}", r"unknown format '\{x\}'"),
        ({"kind": "messages", "colum": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_a_kind_that_cannot_be_understood_is_refused(value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Reader.model_validate({"format": value})


def test_an_extension_adds_a_format(folder: Path) -> None:
    fakes.extend(folder, {"data/formats/pairs.py": LINES_FORMAT})
    module = kinds.find(FORMATS, "pairs")
    assert "pairs" in kinds.names(FORMATS)
    assert module.convert(module.EXAMPLE, module.Config())[0][1].content == "!"


def test_an_extension_adds_a_stage_to_recipes(folder: Path) -> None:
    fakes.extend(folder, {"stages/note.py": NOTE_STAGE})
    recipe = validate({"name": "x", "stages": {"a": {"stage": "note", "text": "hello"}}}, folder=folder)
    assert recipe.steps[0].config.model_dump()["text"] == "hello"


def test_the_identity_changes_with_an_extensions_code_but_not_with_ours(folder: Path) -> None:
    fakes.extend(folder, {"stages/note.py": NOTE_STAGE})
    config = kinds.find("baihua.stages", "note").Config(text="x")
    before = identity("note", config, {})
    (folder / "stages" / "note.py").write_text(NOTE_STAGE + "\n# changed\n", encoding="utf-8")
    assert identity("note", config, {}) != before
    assert kinds.foreign_hash("baihua.core.kinds") is None


def test_the_code_of_a_format_inside_a_config_counts_too(folder: Path) -> None:
    file = fakes.write_lines(folder / "a.jsonl", [{"q": "?", "a": "!"}])
    fakes.extend(folder / "more", {"data/formats/pairs.py": LINES_FORMAT})
    config = kinds.find("baihua.stages", "import_data").Config(files=[str(file)], format="pairs")
    before = identity("import_data", config, {})
    (folder / "more" / "data" / "formats" / "pairs.py").write_text(LINES_FORMAT + "\n# new\n", encoding="utf-8")
    assert identity("import_data", config, {}) != before


def test_a_folder_of_extensions_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not exist\n  where: .*nowhere\n  fix:   check --extensions"):
        kinds.extend(tmp_path / "nowhere")
