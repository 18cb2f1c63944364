"""Every filter of the folder keeps what its file promises; a new file is tested the moment it exists."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from data_stages import run_stage
from fakes import extend, take_back

from baihua.chat.types import Message
from baihua.core import kinds
from baihua.core.errors import InputError
from baihua.data.batch import Batch
from baihua.data.clean.contract import FILTERS, Filter
from baihua.data.clean.shard import Shard
from baihua.data.rows import DOCUMENT, FILE, Row, write_rows
from baihua.data.shards import RowGroup

MODULES = {kind: kinds.find(FILTERS, kind) for kind in kinds.names(FILTERS)}


def opened(kind: str) -> Filter:
    """A filter with the config of its examples."""
    module = MODULES[kind]
    return Filter(vars(module).get("EXAMPLE") or module.Config())


def of_shapes(*shapes: str) -> list[str]:
    return [kind for kind in MODULES if opened(kind).shape in shapes]


def example(kind: str, name: str) -> list[Any]:
    """The examples of a kind under a name; what changes comes in pairs."""
    found = vars(MODULES[kind]).get(name, [])
    return list(found.items()) if isinstance(found, dict) else list(found)


def row_of(number: int, example: str | dict[str, Any] | Sequence[Message]) -> Row:
    """A row of an example: a text is a document, a mapping is the meta of a row."""
    messages = [Message(DOCUMENT, example)] if isinstance(example, str) else example
    if isinstance(example, dict):
        return Row(f"{number:016x}", (Message("user", "问"), Message("assistant", "答")), meta=example)
    return Row(f"{number:016x}", tuple(messages), "test", "a.jsonl", number + 1, f"g{number}")


def run(kind: str, examples: Sequence[Any], folder: Path) -> Shard:
    """The examples after the filter, in the layout of a shard."""
    write_rows([row_of(number, item) for number, item in enumerate(examples)], folder)
    needs = {"count_tokens": lambda messages: sum(len(m.content) for m in messages), "topics": {}}
    shard, item = Shard(Batch(RowGroup(str(folder / FILE)).read())), opened(kind)
    shard.run(item, {need: needs[need] for need in item.needs})
    return shard


def shown(shard: Shard) -> list[tuple[Message, ...]]:
    return [row.messages for row in shard.batch.rows()]


@pytest.mark.parametrize("kind", MODULES)
def test_a_filter_has_one_function_a_described_config_and_examples(kind: str) -> None:
    item = opened(kind)
    assert item.kind == kind
    assert all(field.description for field in type(item.config).model_fields.values())
    has_examples = any(example(kind, name) for name in ("KEPT", "DROPPED", "CHANGED", "SPLIT"))
    assert has_examples or item.shape == "check_table" or "topics" in item.needs
    assert (MODULES[kind].__doc__ or "").strip()


@pytest.mark.parametrize("kind", of_shapes("check_column", "check_text", "check_row"))
def test_examples_are_kept_dropped_changed_and_split_as_the_file_says(kind: str, tmp_path: Path) -> None:
    kept, dropped, changed, split = (example(kind, name) for name in ("KEPT", "DROPPED", "CHANGED", "SPLIT"))
    befores = [*kept, *dropped, *(before for before, _ in [*changed, *split])]
    wanted = [*kept, *(after for _, after in changed), *(part for _, parts in split for part in parts)]
    shard = run(kind, befores, tmp_path / "1")
    assert shown(shard) == [row_of(0, item).messages for item in wanted]
    assert [row["id"] for table in shard.dropped_rows for row in table.to_pylist()] == [
        f"{number:016x}" for number in range(len(kept), len(kept) + len(dropped))
    ]
    assert shard.counts["changed"].total() == len(changed) + len(split)
    assert shard.counts["added"].total() == sum(len(parts) - 1 for _, parts in split)


@pytest.mark.parametrize("kind", of_shapes("check_column", "check_text", "check_row"))
def test_what_a_filter_lets_through_it_lets_through_again(kind: str, tmp_path: Path) -> None:
    results = [*example(kind, "KEPT"), *(after for _, after in example(kind, "CHANGED"))]
    results += [part for _, parts in example(kind, "SPLIT") for part in parts]
    again = run(kind, results, tmp_path)
    assert shown(again) == [row_of(0, item).messages for item in results]
    assert [counter.total() for counter in again.counts.values()] == [0, 0, 0]


@pytest.mark.parametrize("kind", of_shapes("check_table"))
def test_a_table_filter_drops_a_copy_and_names_what_stays(kind: str, tmp_path: Path) -> None:
    texts = [
        "春天来了，院子里的花一朵接一朵地开了。",
        "请把这段话翻译成英文，注意语气。",
        "春天来了,院子里的花一朵接一朵地开了",
    ]
    write_rows([row_of(number, text) for number, text in enumerate(texts)], tmp_path / "in")
    made = run_stage("clean", tmp_path / "out", {"data": tmp_path / "in"}, filters=[opened(kind).config.model_dump()])
    (dropped,) = made.dropped
    assert dropped["reason"] == kind
    assert dropped["detail"].startswith("of 000000000000000")
    assert json.loads(dropped["row"])["messages"][0]["content"] in (texts[0], texts[2])
    # A split must not put the copy's group and the row's on different sides, had the copy stayed.
    kept = pq.read_table(made.folder / "documents.parquet").to_pylist()
    assert {row["group"] for row in kept if row["text"] != texts[1]} == {"g0"}


MINE = '''
"""A filter of the user's."""
from typing import Literal

from baihua.core.config import Base

class Config(Base):
    """Nothing to choose."""
    kind: Literal["mine"] = "mine"

'''


@pytest.mark.parametrize(
    ("code", "message", "fix"),
    [
        ("", "the filter 'mine' defines no filter function", "define exactly one of check_column, check_text, "),
        (
            "def check_row(row, config): ...\ndef check_text(text, config): ...",
            "the filter 'mine' defines check_text and check_row",
            "define exactly one of",
        ),
        ("def check_text(text, config): return text + '。'", "returned a new text for a row", 'set SCOPE = "field"'),
        ("NEEDS = ('topic',)\ndef check_row(row, config, topic): ...", "unknown need 'topic'; did you mean", ""),
    ],
)
def test_a_filter_that_breaks_the_contract_is_refused(tmp_path: Path, code: str, message: str, fix: str) -> None:
    folder = extend(tmp_path / "mine", {"data/filters/mine.py": MINE + code})
    try:
        write_rows([row_of(0, [Message("user", "问"), Message("assistant", "答")])], tmp_path / "in")
        with pytest.raises(InputError, match=message) as raised:
            run_stage("clean", tmp_path / "out", {"data": tmp_path / "in"}, filters=[{"kind": "mine"}])
        assert fix in (raised.value.fix or "")
    finally:
        take_back(folder)
