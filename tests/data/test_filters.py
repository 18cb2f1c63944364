"""Every filter of the folder keeps what its file promises; a new file is tested the moment it exists."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest
from data_stages import Made, run_stage

from baihua.chat.types import Message
from baihua.core import kinds
from baihua.core.config import Base
from baihua.data.clean.contract import Drop
from baihua.data.rows import DOCUMENT, Row, write_rows

FILTERS = "baihua.data.filters"
FORMS = {
    "drop_where", "change", "check_text", "change_text", "check_row", "check_meta", "check_id", "check_table",
}  # fmt: skip


def modules(*forms: str) -> list[Any]:
    found = [(name, kinds.find(FILTERS, name)) for name in kinds.names(FILTERS)]
    return [pytest.param(module, id=name) for name, module in found if set(forms or FORMS) & set(vars(module))]


def config_of(module: ModuleType) -> Base:
    return vars(module).get("EXAMPLE") or module.Config()


def rows_of(texts: list[str]) -> list[Row]:
    """Rows of one text each, as documents travel."""
    return [
        Row(f"{n:016x}", (Message(DOCUMENT, text),), "test", "a.jsonl", n + 1, f"g{n}") for n, text in enumerate(texts)
    ]


def clean(folder: Path, rows: list[Row], *filters: Base | dict[str, Any]) -> Made:
    write_rows(rows, folder / "in")
    listed = [item if isinstance(item, dict) else item.model_dump() for item in filters]
    return run_stage("clean", folder / "out", {"data": folder / "in"}, filters=listed)


def read_table(made: Made) -> list[dict[str, Any]]:
    return pq.read_table(made.folder / "documents.parquet").to_pylist()


@pytest.mark.parametrize("module", modules())
def test_a_filter_has_one_form_a_described_config_and_examples(module: ModuleType) -> None:
    assert len(FORMS & set(vars(module))) == 1
    config = config_of(module)
    assert vars(config)["kind"] == module.__name__.rpartition(".")[2]
    assert all(field.description for field in type(config).model_fields.values())
    has_examples = {"KEPT", "DROPPED", "CHANGED", "SPLIT"} & set(vars(module))
    assert has_examples or {"check_table", "check_id"} & set(vars(module))
    assert (module.__doc__ or "").strip()


@pytest.mark.parametrize("module", modules("drop_where", "check_text"))
def test_texts_are_kept_and_dropped_as_the_file_says(module: ModuleType, tmp_path: Path) -> None:
    rows = rows_of([*module.KEPT, *module.DROPPED])
    made = clean(tmp_path, rows, config_of(module))
    assert [row["id"] for row in made.dropped] == [row.id for row in rows[len(module.KEPT) :]]
    assert made.figures["num_rows_changed"] == {}


@pytest.mark.parametrize("module", modules("change", "change_text"))
def test_texts_are_changed_as_the_file_says_and_only_once(module: ModuleType, tmp_path: Path) -> None:
    before, after = [*module.CHANGED, *module.KEPT], [*module.CHANGED.values(), *module.KEPT]
    kind = vars(config_of(module))["kind"]
    made = clean(tmp_path / "1", rows_of(before), config_of(module))
    assert made.texts == after
    assert made.figures["num_rows_changed"] == {kind: len(module.CHANGED)}
    again = clean(tmp_path / "2", rows_of(after), config_of(module))
    assert (again.texts, again.figures["num_rows_changed"]) == (after, {})


@pytest.mark.parametrize("module", modules("check_row"))
def test_rows_are_treated_as_the_file_says(module: ModuleType) -> None:
    config = config_of(module)
    extra = {"count_tokens": lambda messages: sum(len(m.content) for m in messages)}
    needed = {name: extra[name] for name in vars(module).get("NEEDS", ())}
    for messages in module.KEPT:
        assert type(module.check_row(messages, config, **needed)).__name__ == "Keep"
    for messages in vars(module).get("DROPPED", []):
        assert isinstance(module.check_row(messages, config, **needed), Drop)
    for messages, wanted in vars(module).get("CHANGED", []):
        assert list(module.check_row(messages, config, **needed).messages) == wanted
    for messages, wanted in vars(module).get("SPLIT", []):
        assert [list(part) for part in module.check_row(messages, config, **needed).parts] == wanted


@pytest.mark.parametrize("module", modules("check_meta"))
def test_meta_is_checked_as_the_file_says(module: ModuleType) -> None:
    config = config_of(module)
    assert not any(isinstance(module.check_meta(meta, config), Drop) for meta in module.KEPT)
    assert all(isinstance(module.check_meta(meta, config), Drop) for meta in module.DROPPED)


@pytest.mark.parametrize("module", modules("check_table"))
def test_a_table_filter_drops_a_copy_and_names_what_stays(module: ModuleType, tmp_path: Path) -> None:
    texts = [
        "春天来了，院子里的花一朵接一朵地开了。",
        "请把这段话翻译成英文，注意语气。",
        "春天来了,院子里的花一朵接一朵地开了",
    ]
    made = clean(tmp_path, rows_of(texts), config_of(module))
    (dropped,) = made.dropped
    kind = vars(config_of(module))["kind"]
    assert dropped["reason"] == kind
    assert dropped["detail"].startswith("of 000000000000000")
    assert json.loads(dropped["row"])["messages"][0]["content"] in (texts[0], texts[2])
    # A split must not put the copy's group and the row's on different sides, had the copy stayed.
    assert {row["group"] for row in read_table(made) if row["text"] != texts[1]} == {"g0"}
