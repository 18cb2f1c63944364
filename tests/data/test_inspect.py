import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baihua.chat.types import Message
from baihua.chat.zh import han_share
from baihua.cli.views.data import print_stats
from baihua.core.errors import InputError
from baihua.core.stage import Given, find_stage, run_into
from baihua.data.inspect.char_classes import HAN, OTHER, SIMPLIFIED, TRADITIONAL, count_classes
from baihua.data.inspect.copies import find_clusters
from baihua.data.inspect.figures import describe, read_figures
from baihua.data.inspect.row_measures import excerpt
from baihua.data.inspect.topic_words import choose_words, count_words
from baihua.data.inspect.topics import Topic, read_topics, write_topics
from baihua.data.rows import DOCUMENTS_FILE, DOCUMENTS_SCHEMA, DROPPED_FILE, DROPPED_SCHEMA, Row, message_id, write_rows

SUBJECTS = [
    "请把下面的句子翻译成英文：今天{}的天气很好。",
    "{}的首都是哪座城市？请简单回答。",
    "写一首关于{}的诗歌，要求押韵。",
]
PLACES = ["北京", "上海", "广州", "成都", "西安", "武汉", "南京", "杭州", "重庆", "天津", "昆明", "青岛"]


def row(question: str, answer: str, *, source: str = "手写", line: int = 1, system: str = "") -> Row:
    first = (Message("system", system),) if system else ()
    messages = (*first, Message("user", question), Message("assistant", answer))
    return Row(message_id(messages), messages, source=source, file="数据.jsonl", line=line)


def write_subjects(folder: Path) -> list[Row]:
    questions = [ask(subject, number) for subject in range(3) for number in range(len(PLACES))]
    answers = ["很抱歉，我不能回答这个问题。" if "首都" in text else "好的。" for text in questions]
    rows = [row(*pair, line=number) for number, pair in enumerate(zip(questions, answers, strict=True), start=1)]
    write_rows(rows, folder)
    return rows


def ask(subject: int, number: int) -> str:
    return SUBJECTS[subject].format(PLACES[number])


def write_documents(texts: list[str], folder: Path) -> None:
    defaults = {"source": "书", "file": "书.jsonl", "group": "", "meta": "{}"}
    records = [defaults | {"id": f"{number:016x}", "line": number, "text": text} for number, text in enumerate(texts)]
    pq.write_table(pa.Table.from_pylist(records, schema=DOCUMENTS_SCHEMA), folder / DOCUMENTS_FILE)


def counted(figures_bins: list) -> dict[str, int]:  # type: ignore[type-arg]
    return {found.label: found.num_rows for found in figures_bins if found.num_rows}


# ---- letters


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.text())))
def test_letters_are_counted_as_one_text_at_a_time_would_be(texts: list[str | None]) -> None:
    counts = count_classes(pa.array(texts, pa.string()))
    assert counts.sum(1).tolist() == [len(text or "") for text in texts]
    shares = counts[:, HAN:].sum(1) / counts[:, OTHER:].sum(1).clip(1)
    assert shares.tolist() == [han_share(text or "") for text in texts]


def test_a_slice_of_texts_is_counted_as_its_own() -> None:
    texts = pa.array(["甲", "乙a", None, "", "😀丙"])
    assert count_classes(texts.slice(1, 4)).tolist() == count_classes(texts).tolist()[1:]


@pytest.mark.parametrize(
    ("text", "num_simplified", "num_traditional"),
    [("这个国家", 3, 0), ("這個國家", 0, 3), ("皇后在台上", 0, 0), ("这這", 1, 1), ("hello", 0, 0)],
)
def test_only_characters_of_one_way_of_writing_tell_it(text: str, num_simplified: int, num_traditional: int) -> None:
    counts = count_classes(pa.array([text]))[0]
    assert (counts[SIMPLIFIED], counts[TRADITIONAL]) == (num_simplified, num_traditional)


# ---- figures


def test_figures_of_a_small_set_are_right(tmp_path: Path) -> None:
    rows = [
        row("你好", "这是白话。", source="甲"),
        row("Say hello please", "Hello, world", source="乙", line=2),
        row("這是什麼？", "这個", source="乙", line=3, system="系统"),
        row("1+1=", "2", source="乙", line=4),
    ]
    write_rows(rows, tmp_path)
    figures = describe(tmp_path)
    assert figures.num_rows == 4
    assert figures.num_chars == 7 + 28 + 9 + 5
    assert figures.mean_han_share == (1 + 0 + 1 + 0) / 4
    assert figures.scripts == {"neither": 2, "simplified": 1, "traditional": 0, "both": 1}
    assert figures.languages == {"zh": 2, "en": 1, "other": 1}
    assert [(source.name, source.num_rows) for source in figures.sources] == [("乙", 3), ("甲", 1)]
    assert counted(figures.histograms["turns"]) == {"2": 4}
    assert counted(figures.histograms["questions"]) == {"2–4": 2, "5–9": 1, "10–19": 1}
    assert counted(figures.histograms["answers"]) == {"1": 1, "2–4": 1, "5–9": 1, "10–19": 1}
    assert counted(figures.histograms["han_percent"]) == {"0–9": 2, "100": 2}


def test_the_worst_rows_are_found_with_their_places(tmp_path: Path) -> None:
    rows = [row(f"第{n}个问题是什么？", "答" * n, line=n) for n in range(1, 3000)]
    rows += [row("念一百遍", "我爱中国" * 30, line=3000), row("Speak", "English only", line=3001)]
    write_rows(rows, tmp_path)
    odd = describe(tmp_path).odd
    assert [found.line for found in odd["longest"]] == [2999, 2998, 2997, 2996, 2995]
    assert [found.value for found in odd["shortest"]] == [1, 2, 3, 4, 5]
    assert (odd["lowest_han_share"][0].line, odd["lowest_han_share"][0].value) == (3001, 0)
    assert odd["most_repetitive"][0].value < 0.05
    assert odd["longest"][0].file == "数据.jsonl"
    assert odd["longest"][0].excerpt.startswith("第2999个问题是什么？ 答答")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


@settings(max_examples=25, deadline=None)
@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), max_size=20))
def test_every_histogram_counts_every_row_once(
    pairs: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("data")
    write_rows([row(*pair) for pair in pairs], folder)
    figures = describe(folder)
    assert {sum(found.num_rows for found in bins) for bins in figures.histograms.values()} <= {len(pairs)}
    assert sum(figures.scripts.values()) == sum(figures.languages.values()) == len(pairs)
    assert figures.num_chars == sum(len(text) for pair in pairs for text in pair)


def test_documents_have_lengths_and_no_turns(tmp_path: Path) -> None:
    write_documents(["短。", "天地玄黄" * 100], tmp_path)
    figures = describe(tmp_path)
    assert set(figures.histograms) == {"text", "han_percent"}
    assert counted(figures.histograms["text"]) == {"2–4": 1, "200–499": 1}
    assert [found.value for found in figures.odd["longest"]] == [400, 2]


def test_empty_data_has_figures(tmp_path: Path) -> None:
    write_rows([], tmp_path)
    assert describe(tmp_path).mean_han_share is None
    assert describe(tmp_path).histograms == {}


def test_counts_and_licences_come_from_the_manifest(tmp_path: Path) -> None:
    write_rows([row("问", "答", source="甲"), row("再问", "再答", source="丙")], tmp_path / "train")
    metrics = {"num_rows_in": 5, "num_rows_kept": 2, "num_rows_added": {}, "num_rows_dropped": {"empty": 3}}
    manifest = {"schema": 1, "id": "0" * 64, "sources": {"甲": "MIT", "丙": None}, "metrics": metrics}
    for folder in (tmp_path, tmp_path / "train"):
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    figures = describe(tmp_path / "train")
    assert figures.counts is not None
    assert figures.counts.equation == "5 rows in + 0 added = 2 kept + 3 dropped"
    (tmp_path / "train" / "manifest.json").unlink()
    part = describe(tmp_path / "train")
    assert part.counts is None
    assert {source.name: source.licence for source in part.sources} == {"甲": "MIT", "丙": None}


def test_an_excerpt_is_one_short_line_that_cannot_move_the_cursor() -> None:
    assert excerpt("第一行\n\n  第二行\x1b[2J") == "第一行 第二行\N{REPLACEMENT CHARACTER}[2J"
    assert excerpt("长" * 161) == "长" * 160 + "…"


def test_a_folder_without_figures_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no figures\.json in this folder"):
        read_figures(tmp_path)


# ---- clusters of copies


def drop(detail: str, text: str, *, line: int, reason: str = "near_duplicate") -> dict[str, Any]:
    raw = json.dumps({"messages": [{"role": "user", "content": text, "input": None}]}, ensure_ascii=False)
    return {"file": "数据.jsonl", "line": line, "reason": reason, "detail": detail, "row": raw}


def write_dropped(rows: list[dict[str, Any]], folder: Path) -> None:
    pq.write_table(pa.Table.from_pylist(rows, DROPPED_SCHEMA), folder / DROPPED_FILE)


def test_copies_are_counted_by_the_row_that_is_kept(tmp_path: Path) -> None:
    kept = row("三原色是什么？", "红、黄、蓝。")
    gone = "0123456789abcdef-2"
    write_rows([kept, row("别的", "答案")], tmp_path)
    dropped = [drop(f"of {kept.id}, 0.9{n}", f"三原色{n}", line=n) for n in range(5)]
    dropped += [drop(f"of {gone}", "副本", line=7, reason="exact_duplicate"), drop("of three messages", "坏", line=8)]
    write_dropped(dropped, tmp_path)
    first, second = describe(tmp_path).clusters
    assert (first.id, first.num_dropped, first.reasons) == (kept.id, 5, {"near_duplicate": 5})
    assert first.excerpt == "三原色是什么？ 红、黄、蓝。"
    assert [(copy.line, copy.excerpt) for copy in first.examples] == [(0, "三原色0"), (1, "三原色1"), (2, "三原色2")]
    assert (second.id, second.num_dropped, second.excerpt) == (gone, 1, None)
    assert describe(tmp_path).dropped == {"near_duplicate": 6, "exact_duplicate": 1}


def test_only_the_largest_clusters_are_shown(tmp_path: Path) -> None:
    write_rows([row("问", "答")], tmp_path)
    write_dropped([drop(f"of {n % 4:016x}", "副本", line=n) for n in range(10)], tmp_path)
    found = find_clusters(tmp_path / "dropped.parquet", tmp_path / "conversations.parquet", count=2)
    assert [(cluster.id, cluster.num_dropped) for cluster in found] == [(f"{0:016x}", 3), (f"{1:016x}", 3)]


def test_a_dropped_record_that_is_not_json_is_shown_as_it_is(tmp_path: Path) -> None:
    write_rows([row("问", "答")], tmp_path)
    write_dropped([drop(f"of {0:016x}", "", line=1, reason="exact_duplicate") | {"row": "{坏了"}], tmp_path)
    assert describe(tmp_path).clusters[0].examples[0].excerpt == "{坏了"


# ---- topics


def test_topics_part_subjects_and_are_named_by_them(tmp_path: Path) -> None:
    rows = write_subjects(tmp_path)
    topics = write_topics(tmp_path, tmp_path, num_topics=20, seed=0)
    assert [topic.num_rows for topic in topics] == [12, 12, 12]
    by_id = {item["id"]: item["topic"] for item in pq.read_table(tmp_path / "topics.parquet").to_pylist()}
    names = [{by_id[item.id] for item in rows[start : start + 12]} for start in (0, 12, 24)]
    assert [len(found) for found in names] == [1, 1, 1]
    refusing = next(topic for topic in topics if topic.name in names[1])
    assert (refusing.num_refusals, refusing.mean_chars) == (12, 14)
    assert all("首都" in text for text in refusing.examples)
    for pattern, (name,) in zip(SUBJECTS, names, strict=True):
        assert name.split("·")[0] in pattern


def test_the_same_rows_and_seed_give_the_same_topics(tmp_path: Path) -> None:
    write_subjects(tmp_path)
    first = write_topics(tmp_path, tmp_path, num_topics=3, seed=7)
    table = pq.read_table(tmp_path / "topics.parquet")
    assert write_topics(tmp_path, tmp_path, num_topics=3, seed=7) == first
    assert pq.read_table(tmp_path / "topics.parquet") == table


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [0, 1, 2, 15])
def test_few_or_equal_rows_have_one_topic_at_most(count: int, tmp_path: Path) -> None:
    write_rows([row("同一个问题", "答", line=n) for n in range(count)], tmp_path)
    topics = write_topics(tmp_path, tmp_path, num_topics=20, seed=0)
    assert [topic.num_rows for topic in topics] == [count][: min(count, 1)]
    assert pq.read_metadata(tmp_path / "topics.parquet").num_rows == count


def test_documents_have_topics_and_do_not_refuse(tmp_path: Path) -> None:
    write_documents([ask(subject, number) for subject in range(3) for number in range(len(PLACES))], tmp_path)
    topics = write_topics(tmp_path, tmp_path, num_topics=3, seed=0)
    assert len(topics) == 3
    assert {topic.num_refusals for topic in topics} == {None}


def test_topics_without_words_keep_apart(tmp_path: Path) -> None:
    write_rows([row(f"{sign * 9}{n}", "答") for sign in "+-" for n in range(20)], tmp_path)
    names = [topic.name for topic in write_topics(tmp_path, tmp_path, num_topics=2, seed=0)]
    assert sorted(names) == ["其他", "其他·2"]


def test_a_name_is_made_of_whole_words() -> None:
    texts = ["介绍人工智能的历史", "人工智能是什么？", "谁发明了人工智能", "学人工智能要几年", "人工智能和我"]
    others = ["介绍长城的历史", "什么是长城？", "谁修了长城", "修长城要几年", "长城和我"]
    inside, everywhere = count_words(texts), count_words(texts + others)
    assert choose_words(inside, 5, everywhere, 10)[0] == "人工智能"


def test_texts_of_one_pattern_have_a_name_too() -> None:
    texts = [f"{place}的首都在哪里？" for place in PLACES]
    counts = count_words(texts)
    assert choose_words(counts, 12, counts, 12)[0] in "的首都在哪里"


# ---- stage and terminal


@pytest.fixture(scope="module")
def inspection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    write_subjects(folder / "data")
    config = find_stage("inspect").Config.model_validate({"num_topics": 3})
    run_into("inspect", config, {"data": Given(folder / "data", "0" * 64)}, folder / "out")
    return folder


def test_the_stage_writes_what_it_found(inspection: Path) -> None:
    out = inspection / "out"
    assert read_figures(out) == describe(inspection / "data")
    topics = read_topics(out)
    assert isinstance(topics[0], Topic)
    metrics = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["metrics"]
    assert metrics["num_rows_in"] == metrics["num_rows_kept"] == sum(topic.num_rows for topic in topics) == 36
    assert (metrics["num_topics"], metrics["num_refusals"]) == (3, 12)


def test_figures_are_printed_with_bars(inspection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_stats(inspection / "data", as_json=False)
    text = capsys.readouterr().out
    assert text.startswith("36 rows, ")
    assert "  手写 (no licence stated) ████████████████████████████████ 36\n" in text
    assert "  simplified ████████████████████████████████ 36\n" in text
    assert "数据.jsonl:1\n" in text


def test_json_has_the_same_numbers(inspection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_stats(inspection / "data", as_json=True)
    assert json.loads(capsys.readouterr().out) == asdict(describe(inspection / "data"))


def test_a_folder_without_data_is_named(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match=r"no conversations or documents found(.|\n)*parts: train"):
        print_stats(tmp_path, as_json=False)
