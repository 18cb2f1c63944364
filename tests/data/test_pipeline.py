"""Filters in a row over rows of any number: counts add up, order does not matter to the engine, nothing is lost."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from data_stages import Made, import_files, run_stage
from fakes import extend, take_back, talk, write_lines
from gram_sets import similarity
from guides import python_example
from hypothesis import given, settings
from hypothesis import strategies as st

from baihua.chat.types import Message
from baihua.core import kinds
from baihua.core.errors import InputError
from baihua.data.draw.index import read_index
from baihua.data.rows import Row, message_id, write_rows

TEXTS = [
    "春天来了，院子里的花一朵接一朵地开了。",
    "春天来了,院子里的花一朵接一朵地开了!",
    "ＡＢＣ１２３",
    "作为一个人工智能语言模型，我无法回答这个问题。",
    "我是由 OpenAI 训练的 ChatGPT。",
    "重复" * 60,
    "Only English here.",
    "。。。",
    "繁體中文的句子很長。",
    "第一行\\n第二行\\n第三行",
    "請打電話 13812345678。",
    "<p>网页</p><p>内容</p>",
]
FILTERS: list[dict[str, Any]] = [
    {"kind": "empty"},
    {"kind": "length", "minimum_chars": 8},
    {"kind": "turns", "maximum_turns": 2},
    {"kind": "han_share", "minimum": 0.3},
    {"kind": "script"},
    {"kind": "width"},
    {"kind": "literal_newline"},
    {"kind": "html"},
    {"kind": "pii"},
    {"kind": "repetition"},
    {"kind": "refusal"},
    {"kind": "other_identity"},
    {"kind": "column", "name": "score", "minimum": 3},
    {"kind": "exact_duplicate", "part": "answers"},
    {"kind": "near_duplicate", "part": "answers"},
    {"kind": "near_duplicate", "action": "group"},
]


def row_of(turns: list[str], number: int) -> Row:
    messages = tuple(Message("assistant" if n % 2 else "user", text) for n, text in enumerate(turns))
    row_id = f"{number:03}" + message_id(messages)[3:]
    return Row(row_id, messages, "test", "a.jsonl", number + 1, f"g{number}", {"score": number % 6})


def clean(folder: Path, rows: list[Row], *filters: dict[str, Any], **inputs: Path) -> Made:
    write_rows(rows, folder / "in")
    return run_stage("clean", folder / "out", {"data": folder / "in", **inputs}, filters=list(filters))


def turns_of(texts: list[str]) -> list[str]:
    return [f"问题{n // 2}" if n % 2 == 0 else text for n, text in enumerate(t for text in texts for t in (text, text))]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3), min_size=1, max_size=12),
    st.lists(st.sampled_from(FILTERS), min_size=1, max_size=6),
)
def test_counts_add_up_whatever_the_filters(
    tmp_path_factory: pytest.TempPathFactory, talks: list[list[str]], filters: list[dict[str, Any]]
) -> None:
    rows = [row_of(turns_of(texts), number) for number, texts in enumerate(talks)]
    made = clean(tmp_path_factory.mktemp("clean"), rows, *filters)
    kept, dropped = [row.id for row in made.rows], [row["id"] for row in made.dropped]
    assert sorted(kept + dropped) == sorted(row.id for row in rows)
    assert kept == [row.id for row in rows if row.id in set(kept)]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(TEXTS[:2] + TEXTS[3:7]), min_size=2, max_size=14), st.integers(0, 9))
def test_a_split_never_separates_a_cluster(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("split")
    rows = [row_of(["问", text], number) for number, text in enumerate(texts)]
    made = clean(folder, rows, {"kind": "near_duplicate", "action": "group", "part": "answers"})
    assert len(made.rows) == len(rows)
    groups: dict[str, str] = {}
    for row in made.rows:
        for other, group in groups.items():
            is_near = similarity(row.messages[1].content, other) >= 0.55
            assert not is_near or row.group == group
        groups[row.messages[1].content] = row.group


def test_filters_give_the_same_over_several_shards(tmp_path: Path) -> None:
    rows = [row_of([f"问题{n}", TEXTS[n % 3] + str(n // 3) * 4], n) for n in range(24)]
    filters = [
        {"kind": "width"},
        {"kind": "exact_duplicate", "part": "answers"},
        {"kind": "length", "minimum_chars": 9},
    ]
    whole = clean(tmp_path, rows, *filters)
    file = tmp_path / "shards" / "conversations.parquet"
    file.parent.mkdir()
    pq.write_table(pq.read_table(tmp_path / "in"), file, row_group_size=8)
    shards = run_stage("clean", tmp_path / "2", {"data": file}, filters=filters)
    assert (shards.rows, shards.figures) == (whole.rows, whole.figures)
    assert sorted(map(str, shards.dropped)) == sorted(map(str, whole.dropped))
    assert whole.figures["num_rows_dropped"]["exact_duplicate"] > 0


def test_a_refusal_in_a_later_turn_drops_the_row(tmp_path: Path) -> None:
    made = clean(
        tmp_path, [row_of(["你好", "你好！", "再问", TEXTS[3]], 0), row_of(["你好", "好"], 1)], {"kind": "refusal"}
    )
    assert made.figures["num_rows_dropped"] == {"refusal": 1}


def test_a_foreign_identity_costs_its_turn_only(tmp_path: Path) -> None:
    rows = [row_of(["你是谁？", TEXTS[4], "一加一？", "等于二。"], 0), row_of(["你是谁？", TEXTS[4]], 1)]
    made = clean(tmp_path, rows, {"kind": "other_identity"})
    assert [m.content for m in made.rows[0].messages] == ["一加一？", "等于二。"]
    assert made.figures["num_rows_changed"] == {"other_identity": 1}
    assert made.figures["num_rows_dropped"] == {"other_identity": 1}


def test_a_long_row_is_split_by_the_models_tokens(tmp_path: Path, tiny_folder: Path) -> None:
    row = row_of(["第一问", "第一答" * 9, "第二问", "第二答" * 9], 0)
    made = clean(tmp_path, [row], {"kind": "split_long", "maximum_tokens": 110}, model=tiny_folder)
    assert [r.id for r in made.rows] == [row.id, f"{row.id}-part-2"]
    assert made.figures["num_rows_added"] == {"split_long": 1}
    assert {r.group for r in made.rows} == {"g0"}


def test_a_topic_is_dropped_by_its_name(tmp_path: Path) -> None:
    words = ("翻译成英文的句子", "计算乘法的结果")
    rows = [row_of([f"请{words[n % 2]}{n}", f"答案{n}"], n) for n in range(40)]
    write_rows(rows, tmp_path / "data")
    run_stage_inspect(tmp_path)
    topics = dict(zip(*pq.read_table(tmp_path / "topics" / "topics.parquet").to_pydict().values(), strict=True))
    name = topics[rows[0].id]
    made = clean(tmp_path, rows, {"kind": "topic", "drop": [name]}, topics=tmp_path / "topics")
    assert {row.id for row in made.rows} == {row.id for row in rows if topics[row.id] != name}
    assert made.figures["num_rows_dropped"] == {"topic": 20}


def test_a_topic_that_is_not_there_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    rows = [row_of([f"请翻译第{n}句", f"译文{n}"], n) for n in range(12)]
    write_rows(rows, tmp_path / "data")
    run_stage_inspect(tmp_path)
    with pytest.raises(InputError, match=r"unknown topic '没有的' \(known: .+\)\n  fix:   copy the name"):
        clean(tmp_path, rows, {"kind": "topic", "drop": ["没有的"]}, topics=tmp_path / "topics")


def run_stage_inspect(folder: Path) -> None:
    stage = kinds.find("baihua.stages", "inspect")
    (folder / "topics").mkdir()
    stage.run(stage.Config(num_topics=2), {"data": folder / "data"}, folder / "topics")


@pytest.mark.parametrize(
    ("filters", "role"),
    [({"kind": "split_long", "maximum_tokens": 9}, "model"), ({"kind": "topic", "drop": ["x"]}, "topics")],
)
def test_a_filter_without_what_it_needs_is_refused_before_any_work(
    tmp_path: Path, filters: dict[str, Any], role: str
) -> None:
    message = rf"the filter '{filters['kind']}' needs the input '{role}'\n.*\n  fix:   add {role} to the stage's inputs"
    with pytest.raises(InputError, match=message):
        clean(tmp_path, [row_of(["问", "答"], 0)], filters)


def test_rows_may_all_be_dropped_but_not_be_missing(tmp_path: Path) -> None:
    rows = [row_of(["问", "答"], n) for n in range(3)]
    filters = [{"kind": "length", "minimum_chars": 99}, {"kind": "near_duplicate"}, {"kind": "width"}]
    made = clean(tmp_path, rows, *filters)
    assert made.figures["num_rows_dropped"] == {"length": 3}
    with pytest.raises(InputError, match=r"there are no rows to clean\n.*\n  fix:   the stage before dropped them all"):
        run_stage("clean", tmp_path / "2", {"data": made.folder}, filters=filters)


def test_documents_are_cleaned_as_conversations_are(tmp_path: Path) -> None:
    texts = [*TEXTS[:3], TEXTS[6], "長文" * 30]
    data = import_files(tmp_path, write_lines(tmp_path / "a.jsonl", [{"text": text} for text in texts])).folder
    filters = [{"kind": "han_share"}, {"kind": "script"}, {"kind": "width"}, {"kind": "near_duplicate"}]
    made = run_stage("clean", tmp_path / "2", {"data": data}, filters=filters)
    assert made.texts == [TEXTS[0], "长文" * 30]
    assert made.figures["num_rows_dropped"] == {"few_han": 2, "near_duplicate": 1}
    assert read_index([made.folder]).holds_documents


def test_documents_and_conversations_are_not_indexed_together(tmp_path: Path) -> None:
    documents = import_files(tmp_path / "1", write_lines(tmp_path / "a.jsonl", [{"text": "文章"}])).folder
    talks = import_files(tmp_path / "2", write_lines(tmp_path / "b.jsonl", [talk("问", "答")])).folder
    with pytest.raises(InputError, match="one data set cannot hold both documents and conversations"):
        read_index([documents, talks])


SHOUT = '''
"""Answers in capitals."""
from typing import Literal

from baihua.core.config import Base

CHANGED = {"a": "A"}
KEPT = ["A"]

SCOPE = "field"

class Config(Base):
    """Nothing to choose."""
    kind: Literal["shout"] = "shout"

def check_column(text, config):
    return text.upper()
'''


def test_a_message_that_a_filter_empties_takes_its_row_along(tmp_path: Path) -> None:
    erase = SHOUT.replace("shout", "erase").replace("text.upper()", 'text.regexp_replace("[a-z]", " ")')
    folder = extend(tmp_path / "mine", {"data/filters/erase.py": erase})
    try:
        made = clean(tmp_path, [row_of(["Q", "quiet"], 0), row_of(["Q", "LOUD"], 1)], {"kind": "erase"})
        assert (made.texts, made.figures["num_rows_dropped"]) == (["LOUD"], {"empty_text": 1})
    finally:
        take_back(folder)


def test_a_filter_of_the_users_is_one_file(tmp_path: Path) -> None:
    folder = extend(tmp_path / "mine", {"data/filters/shout.py": SHOUT})
    try:
        made = clean(tmp_path, [row_of(["q", "quiet"], 0), row_of(["Q", "LOUD"], 1)], {"kind": "shout"})
        assert made.texts == ["QUIET", "LOUD"]
        assert made.figures["num_rows_changed"] == {"shout": 1}
    finally:
        take_back(folder)


def test_the_filter_in_the_guide_does_what_the_guide_says(tmp_path: Path) -> None:
    code = python_example("data.md", '"shouting"')
    folder = extend(tmp_path / "mine", {"data/filters/shouting.py": code})
    try:
        module = kinds.find("baihua.data.filters", "shouting")
        texts = [*module.KEPT, *module.DROPPED]
        rows = [row_of(["！！！！！！", text], number) for number, text in enumerate(texts)]
        made = clean(tmp_path, rows, {"kind": "shouting"})
        assert (made.texts, made.figures["num_rows_dropped"]) == (module.KEPT, {"shouting": 1})
        assert made.dropped[0]["detail"] == "4 exclamation marks"
        assert clean(tmp_path / "2", rows, {"kind": "shouting", "maximum": 5}).texts == texts
    finally:
        take_back(folder)
