"""What a level costs: distances against their definitions, the stage on the tiny model, speed in a child process."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conversations import make_rows
from hypothesis import given
from hypothesis import strategies as st

from baihua.backends.llama_cpp.scorer import Network, open_scorer
from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
from baihua.chat.types import Message
from baihua.chat.zh import is_mainly_chinese
from baihua.compress.damage import speed
from baihua.compress.damage.distance import Text, check_space, compare, record
from baihua.compress.damage.measure import ReplyPair, edit_distance, find_levels, level_figures
from baihua.compress.damage.summary import advise, draw, markdown
from baihua.compress.damage.texts import Prompt, TextReader, has_conversations
from baihua.compress.export import write_gguf
from baihua.compress.quantize import quantize_gguf
from baihua.core.errors import InputError, RunError
from baihua.data.rows import DOCUMENTS_SCHEMA, Row, read_rows, write_rows
from baihua.model.compare import kl_divergence, measure_bits
from baihua.model.examples import Encoder, Example, TextSize
from baihua.stages import damage as stage

CATEGORIES = ("open qa", "rewrite")
NAMED = ("mean_kl", "same_top_share", "bits_per_char", "bits_per_char_ratio")
QUICK = {"num_replies": 4, "max_reply_tokens": 6, "num_speed_tokens": 4, "num_threads": 1}


@pytest.fixture(scope="module")
def gguf(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `quantize` leaves it."""
    folder = tmp_path_factory.mktemp("levels")
    write_gguf(tiny_folder, folder / "model-f16.gguf", level="f16")
    for level in ("q8_0", "q4_0"):
        quantize_gguf(folder / "model-f16.gguf", folder / f"model-{level}.gguf", level=level)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_rows(make_rows(12), folder)
    return folder


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("questions")
    asked = [Row(f"q{n}", (Message("user", f"问题{n}？"),), meta={"category": CATEGORIES[n % 2]}) for n in range(4)]
    write_rows(asked, folder)
    return folder


@pytest.fixture(scope="module")
def made(gguf: Path, data: Path, questions: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The stage's folder and metrics."""
    out = tmp_path_factory.mktemp("damage")
    inputs = {"model": gguf, "data": data, "questions": questions}
    return out, stage.run(stage.Config.model_validate(QUICK), inputs, out)


def write_documents(folder: Path, *texts: str) -> Path:
    rows = [
        {"id": f"{n}", "source": "", "file": "", "line": n, "group": "", "text": text, "meta": "{}"}
        for n, text in enumerate(texts)
    ]
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=DOCUMENTS_SCHEMA), folder / "documents.parquet")
    return folder


def make_text(ids: list[int], *, first_target: int = 1, num_chars: int = 3) -> Text:
    size = TextSize(num_chars, num_chars)
    return Text(Example("x", np.array(ids), np.arange(len(ids)) >= first_target, size, size), "zh")


def random_log_probs(num_rows: int, num_tokens: int, *, seed: int, scale: float = 4.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(scale=scale, size=(num_rows, num_tokens))
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


# Distances


@pytest.mark.parametrize("scale", [0.5, 2.0, 4.0, 8.0], ids=["flat", "soft", "sharp", "certain"])
def test_rounded_log_probabilities_give_the_same_divergence(tmp_path: Path, scale: float) -> None:
    texts = [make_text([number, *range(200)]) for number in range(3)]
    first = [random_log_probs(201, 2_000, seed=number, scale=scale).astype(np.float64) for number in range(3)]
    noise = random_log_probs(201, 2_000, seed=9, scale=1.0)
    reference = record(tmp_path / "scratch", texts, (exact.astype(np.float32) for exact in first))
    levels = [exact + 0.2 * noise for exact in first]
    levels = [level - np.log(np.exp(level).sum(axis=1, keepdims=True)) for level in levels]
    distances = compare(reference, (level.astype(np.float32) for level in levels))
    for exact, level, found in zip(first, levels, distances, strict=True):
        wanted = (np.exp(exact) * (exact - level)).sum(axis=1)[:-1]
        assert found.kl_T.shape == (200,)
        assert abs(found.kl_T.mean() - wanted.mean()) < 1e-5
        assert found.num_same_top == (exact.argmax(axis=1) == level.argmax(axis=1))[:-1].sum()


def test_the_divergence_of_a_distribution_from_itself_is_nothing() -> None:
    log_probs = random_log_probs(10, 500, seed=0)
    assert np.abs(kl_divergence(log_probs, log_probs)).max() < 1e-6


def test_bits_are_those_of_the_counted_tokens(tmp_path: Path) -> None:
    even = np.full((4, 8), -np.log(8), dtype=np.float32)
    text = make_text([1, 2, 3, 4], first_target=2, num_chars=2)
    reference = record(tmp_path / "scratch", [text], [even])
    assert reference.bits == [pytest.approx(6.0)]
    assert level_figures(compare(reference, [even]))["bits_per_char_zh"] == pytest.approx(3.0)


def test_too_little_disk_space_is_reported_before_work_begins(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"needs 1000000000\.00 GB of disk (?s:.*) are free(?s:.*)lower `num_texts`"):
        check_space(tmp_path, 10**18)


# Texts


def test_rows_are_sorted_by_language_and_cut(gguf: Path, data: Path) -> None:
    tokenizer = GgufTokenizer(gguf / "model-f16.gguf")
    texts = TextReader(tokenizer, tokenizer.template(), max_length=30).read(data, num_texts=3)
    assert [text.language for text in texts] == ["zh"] * 3 + ["en"] * 3
    assert max(text.num_positions for text in texts) == 29


def test_bits_of_conversations_are_those_of_the_stage_bits(gguf: Path, data: Path, made: tuple[Path, Any]) -> None:
    tokenizer = GgufTokenizer(gguf / "model-q8_0.gguf")
    encoder = Encoder(tokenizer, tokenizer.template())
    chosen = [row for row in read_rows(data) if is_mainly_chinese("".join(m.text for m in row.messages))]
    wanted = measure_bits(
        [encoder.encode(row.id, row.messages) for row in chosen], open_scorer(gguf / "model-q8_0.gguf", 1).log_probs
    )
    row = made[1]["levels"][1]
    assert row["num_texts_zh"] == len(chosen) and row["num_chars_zh"] == wanted.answers.num_chars
    assert row["bits_per_char_zh"] == pytest.approx(wanted.answers.per_char)


def test_documents_count_everything_after_the_first_token(gguf: Path, tmp_path: Path) -> None:
    tokenizer = GgufTokenizer(gguf / "model-f16.gguf")
    folder = write_documents(tmp_path, "鲸吞", "hello world", " ")
    assert not has_conversations(folder)
    chinese, english = TextReader(tokenizer, None, max_length=512).read(folder, num_texts=5)
    # The tiny tokenizer spells 鲸 in bytes: the first is given, so only 吞 begins among the tokens that count.
    assert tokenizer.token_bytes(chinese.example.ids_T[0]) == "鲸".encode()[:1]
    assert (chinese.num_positions, chinese.num_chars) == (len(tokenizer.encode("鲸吞")) - 1, 1)
    assert english.language == "en" and english.num_chars == 11 - len(tokenizer.token_bytes(english.example.ids_T[0]))


def test_questions_are_what_comes_before_the_first_answer_and_fit(gguf: Path, tmp_path: Path) -> None:
    system, user, answer = Message("system", "简短。"), Message("user", "你好"), Message("assistant", "好")
    rows = [
        Row("b", (system, user, answer, user, answer), meta={"category": "chat"}),
        Row("a", (Message("user", "长" * 200), answer)),
        Row("c", (user,)),
        Row("d", (user,)),
    ]
    write_rows(rows, tmp_path)
    tokenizer = GgufTokenizer(gguf / "model-f16.gguf")
    found = TextReader(tokenizer, tokenizer.template(), max_length=100).prompts(tmp_path, num_prompts=2)
    assert found == [Prompt("b", "chat", (system, user)), Prompt("c", "", (user,))]


def test_data_without_a_text_is_refused(gguf: Path, tmp_path: Path) -> None:
    reader = TextReader(GgufTokenizer(gguf / "model-f16.gguf"), None, max_length=512)
    with pytest.raises(InputError, match=r"no text has two tokens(?s:.*)give conversations or documents"):
        reader.read(write_documents(tmp_path, ""), num_texts=5)


# Replies


def slow_distance(first: str, second: str) -> int:
    if not first or not second:
        return len(first) + len(second)
    if first[0] == second[0]:
        return slow_distance(first[1:], second[1:])
    return 1 + min(
        slow_distance(first[1:], second), slow_distance(first, second[1:]), slow_distance(first[1:], second[1:])
    )


@given(st.text("你好ab", max_size=6), st.text("你好ab", max_size=6))
def test_the_edit_distance_is_levenshteins(first: str, second: str) -> None:
    assert edit_distance(first, second) == slow_distance(first, second)


@pytest.mark.parametrize(
    ("reference", "level", "distance"),
    [("", "", 0.0), ("你好", "你好", 0.0), ("你好", "你们好吗", 0.5), ("", "好", 1.0)],
)
def test_a_reply_differs_by_a_share_of_the_longer_one(reference: str, level: str, distance: float) -> None:
    pair = ReplyPair(Prompt("q", "", (Message("user", "?"),)), reference, level)
    assert pair.distance == distance and pair.is_changed == (distance > 0)


# Speed


def test_feeding_piece_by_piece_is_reading_at_once(tiny_gguf: Path) -> None:
    ids = [number % 500 for number in range(3, 600)]
    network = Network(tiny_gguf, num_ctx=1024, num_threads=1)
    whole = network.logits(ids)
    network.close()
    network = Network(tiny_gguf, num_ctx=1024, num_threads=1, num_outputs=1)
    for _ in range(2):
        network.forget()
        np.testing.assert_allclose(network.feed(ids[:550]), whole[549], atol=1e-3)
        for at in range(550, 560):
            np.testing.assert_allclose(network.feed(ids[at : at + 1]), whole[at], atol=1e-3)
    network.close()


def test_speed_is_measured_in_a_process_of_its_own(gguf: Path) -> None:
    found = speed.measure_speed(gguf / "model-q8_0.gguf", num_threads=1, num_prompt_tokens=12, num_new_tokens=4)
    for name in ("prompt_tokens_per_second", "tokens_per_second"):
        assert found[name] > 0 and found[f"{name}_se"] >= 0
    assert 10e6 < found["peak_memory_bytes"] < 1e9
    assert (found["num_prompt_tokens"], found["num_new_tokens"], found["num_repetitions"]) == (12, 4, 3)


def test_the_error_of_a_failed_process_gives_its_reason(gguf: Path) -> None:
    with pytest.raises(
        RunError, match=r"ended with status 1: (?s:.*)do not fit into the model's context of 1024(?s:.*)fix"
    ):
        speed.measure_speed(gguf / "model-q8_0.gguf", num_threads=1, num_prompt_tokens=1000, num_new_tokens=100)


# The stage


def test_every_level_has_every_figure_and_the_reference_those_that_exist(made: tuple[Path, Any]) -> None:
    out, metrics = made
    reference, *levels = metrics["levels"]
    assert [row["level"] for row in metrics["levels"]] == ["f16", "q8_0", "q4_0"]
    for row in metrics["levels"]:
        assert {"file", "file_bytes", "bits_per_weight", "peak_memory_bytes", "num_texts_zh", "num_texts_en"} <= set(
            row
        )
        assert {"prompt_tokens_per_second", "tokens_per_second", "chars_per_second"} <= set(row)
    for row in levels:
        for name in (f"{figure}_{language}" for figure in NAMED for language in ("zh", "en")):
            assert np.isfinite(row[name]) and row[f"{name}_se"] >= 0
        assert row["median_kl_zh"] <= row["p99_kl_zh"] <= row["max_kl_zh"]
        assert {"num_replies", "changed_reply_share", "changed_reply_share_se", "mean_edit_distance"} <= set(row)
    assert not [name for name in reference if "kl" in name or "same_top" in name or "repl" in name or "ratio" in name]
    assert levels[0]["mean_kl_zh"] < levels[1]["mean_kl_zh"]
    assert json.loads((out / "damage.json").read_text(encoding="utf-8")) == metrics


def test_categories_of_the_questions_are_measured_on_the_references_replies(made: tuple[Path, Any]) -> None:
    rows = made[1]["categories"]
    assert [(row["level"], row["category"]) for row in rows] == [(n, c) for n in ("q8_0", "q4_0") for c in CATEGORIES]
    assert all(row["num_replies"] == row["num_texts"] == 2 and row["mean_kl"] > 0 for row in rows)


def test_replies_stand_side_by_side_and_nothing_else_is_left_behind(made: tuple[Path, Any]) -> None:
    out, _ = made
    rows = [json.loads(line) for line in (out / "replies.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["question_id"] for row in rows] == [f"q{n}" for n in range(4)] * 2
    assert {"level", "question", "reference", "reply", "is_changed", "edit_distance"} <= set(rows[0])
    names = {"damage.json", "damage.md", "damage.svg", "replies.jsonl"}
    assert {file.name for file in out.iterdir()} == names


def test_the_same_figures_come_out_again(made: tuple[Path, Any], gguf: Path, data: Path, tmp_path: Path) -> None:
    again = stage.run(
        stage.Config(num_replies=0, num_speed_tokens=0, num_threads=1, levels=["q4_0"]),
        {"model": gguf, "data": data},
        tmp_path,
    )
    row = again["levels"][1]
    assert {name: made[1]["levels"][2][name] for name in row} == row
    assert "tokens_per_second" not in row and "num_replies" not in row and "categories" not in again


def test_damage_measures_what_its_version_measures(made: tuple[Path, Any]) -> None:
    row = made[1]["levels"][2]
    assert (stage.VERSION, round(row["bits_per_char_zh"], 2), round(1e5 * row["mean_kl_zh"])) == (1, 7.47, 9)


def test_documents_in_one_language_give_its_figures_only(gguf: Path, tmp_path: Path) -> None:
    inputs = {"model": gguf, "data": write_documents(tmp_path / "data", "今天天气很好。", "一加一等于二。")}
    (tmp_path / "out").mkdir()
    found = stage.run(stage.Config(num_speed_tokens=0, num_threads=1), inputs, tmp_path / "out")
    assert not [name for row in found["levels"] for name in row if "_en" in name or "repl" in name]
    assert found["levels"][1]["num_texts_zh"] == 2
    assert "English text" not in (tmp_path / "out" / "damage.md").read_text(encoding="utf-8")
    assert not (tmp_path / "out" / "replies.jsonl").exists()


@pytest.mark.parametrize(
    ("levels", "wanted", "message"),
    [
        (["q8_0"], None, r"no file to compare with: expected model-f16\.gguf, found q8_0(?s:.*)with f16 among"),
        ([], None, "found none"),
        (["f16"], None, "the only level is f16(?s:.*)add another level"),
        (["f16", "q8_0"], ["q2_k"], "no file of level q2_k; there are: f16, q8_0(?s:.*)correct `levels`"),
    ],
    ids=["no reference", "nothing", "no level", "unknown level"],
)
def test_a_folder_that_cannot_be_compared_is_refused(
    tmp_path: Path, levels: list[str], wanted: Sequence[str] | None, message: str
) -> None:
    for level in levels:
        (tmp_path / f"model-{level}.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError, match=message):
        find_levels(tmp_path, wanted)


def test_a_single_file_is_refused(gguf: Path) -> None:
    with pytest.raises(InputError, match="give the whole artifact of the stage `quantize`"):
        find_levels(gguf / "model-q8_0.gguf", None)


# Advice, tables and chart

MB = 1_000_000


def level(name: str, size: int, ratio: float | None = None, *, language: str = "zh") -> dict[str, Any]:
    row: dict[str, Any] = {"level": name, "file_bytes": size * MB}
    if ratio is None:
        return row
    loss = {"bits_per_char_ratio": ratio, "same_top_share": 0.9, "mean_kl": ratio - 1}
    row |= {f"{figure}_{language}": value for figure, value in loss.items()}
    return row | {f"bits_per_char_ratio_{language}_se": 0.001}


def test_advice_names_the_smallest_level_of_small_loss_and_what_the_next_costs() -> None:
    rows = [level("f16", 9000), level("q8_0", 5000, 1.001), level("q4_k_m", 3000, 1.012), level("q3_k_m", 800, 1.05)]
    assert advise(rows) == (
        "Take q4_k_m (3.00 GB), which costs 1.2% (± 0.1%) more bits per Chinese character than f16 and a different "
        "most likely token at 10.0% of positions; the next smaller one, q3_k_m (800.0 MB), costs 5.0% (± 0.1%) more "
        "bits per Chinese character and a different most likely token at 10.0% of positions."
    )


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([level("f16", 9), level("q8_0", 5, 1.0)], r"Take q8_0 \(5\.0 MB\).*; no file is smaller\."),
        ([level("f16", 9), level("q8_0", 5, 0.999)], "0.1% .* fewer bits"),
        (
            [level("f16", 9), level("q3_k_m", 5, 1.2), level("q2_k", 4, 1.4)],
            "No level is close to f16 .* q3_k_m .* 20.0%",
        ),
        ([level("f16", 9), level("q8_0", 5, 1.01, language="en")], "more bits per English character"),
        ([level("f16", 9), level("q8_0", 5)], None),
    ],
    ids=["last", "better by chance", "all are far", "English only", "nothing measured"],
)
def test_advice_in_other_cases(rows: list[dict[str, Any]], wanted: str | None) -> None:
    found = advise(rows)
    assert found is None if wanted is None else re.search(wanted, found or "")


def test_markdown_shows_errors_and_leaves_missing_figures_out() -> None:
    rows = [level("f16", 9), level("q8_0", 5, 1.25)]
    text = markdown({"levels": rows, "advice": "Take it."})
    assert text.startswith("Take it.\n\n**Chinese text**\n\n| level |  MB |")
    assert re.search(r"\| f16 +\| 9\.0 \| +– \|", text) and "1.2500 ± 0.0010" in text
    assert "English" not in text and "Speed" not in text and "replies" not in text


def test_the_chart_names_every_level_and_repeats() -> None:
    rows = [level("f16", 9), level("q8_0", 5, 1.25), level("q2_k", 3, 2.5) | {"mean_kl_en": 0.4}]
    svg = draw(rows)
    assert svg and svg == draw(rows)
    texts = re.findall(r">([^<>]+)</text>", svg)
    assert {"q8_0", "q2_k", "Chinese", "English", "1"} <= set(texts)
    assert texts.count("q2_k") == 1 and "$" not in svg


def test_levels_without_a_distance_have_no_chart() -> None:
    assert draw([level("f16", 9), level("q8_0", 5, 1.0)]) is None
