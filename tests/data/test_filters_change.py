"""Filters that change texts: what they change, what they leave, and that a second time changes nothing more."""

import gzip
import json
import re
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baihua.data.clean.texts import change_if_stable, change_prose
from baihua.data.filters import html, literal_newline, mojibake, pii, script, width

FILTERS: list[ModuleType] = [html, literal_newline, mojibake, pii, script, width]
PIECES = [
    *"你好乾后發说。，！？：（）“”　…",
    *"aN1.,!?:;()[]<>/&'\"*_ =@$",
    *["\n", "\\n", "\\", "`", "``", "```", "~~~", "ＡＢ１％", "...", "。。。", "１．５", "\t", "\r", "\ue000", "の"],
    *["<p>", "</p>", "<b>", "</b>", "<br>", "<pre>", "</pre>", "<code>", "</code>", "<ul>", "<li>", "</ul>", "&lt;"],
    *["&nbsp;", "<div", 'class="x">', "</div>", "Copy code", "1 / 2", "Copy1 chars / 2 words", "13812345678", "010-"],
    *["a.b@c.cn", "11010519491231002X", "\\nu", "C:\\new", "浣犲ソ", "ä½\xa0", "â€™", "print(", "http://a.b/c", "一."],
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)
SHARED = Path(__file__).parents[3] / "shared" / "data"
COT = ("aqua", "creak", "ecqa", "qasc", "sensemaking")


def change(module: ModuleType, text: str) -> str:
    return module.check_text(text, module.Config())


def examples(name: str) -> list[tuple[ModuleType, str, str]]:
    if name == "CHANGED":
        return [(module, before, after) for module in FILTERS for before, after in module.CHANGED.items()]
    return [(module, text, text) for module in FILTERS for text in module.KEPT]


@pytest.fixture(scope="module")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the real data is not beside the project (../shared/data)")
    return SHARED


@pytest.mark.parametrize(("module", "before", "after"), examples("CHANGED") + examples("KEPT"))
def test_examples_come_out_as_the_filter_says(module: ModuleType, before: str, after: str) -> None:
    assert change(module, before) == after


@pytest.mark.parametrize("module", FILTERS)
@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
def test_a_second_time_changes_nothing_more(module: ModuleType, text: str) -> None:
    once = change(module, text)
    assert change(module, once) == once


@pytest.mark.parametrize("module", FILTERS)
@settings(max_examples=100, deadline=None)
@given(text=st.text() | st.text(st.characters(categories=["Cs", "Cc", "Lo", "Po"])))
def test_no_text_is_refused(module: ModuleType, text: str) -> None:
    assert isinstance(change(module, text), str)


@pytest.mark.parametrize("module", [html, literal_newline, width])
@pytest.mark.parametrize(
    "code", ["`{}`", "``{}``", "```\n{}\n```", "~~~\n{}\n~~~", "如下：```python\n{}", "> ```\n> {}\n"]
)
def test_code_is_spared(module: ModuleType, code: str) -> None:
    inside = "ｆ(你好,世界) <b>x</b><br>\\n(A)" if "\n" in code else "ｆ(你好,世界) <b>x</b>\\n(A)"
    text = code.format(inside)
    assert change(module, text) == text


@pytest.mark.parametrize("module", FILTERS)
@pytest.mark.parametrize(
    "piece", ["(", "`a ``b ", "<b>", "<a b=c ", "你(", "\\\\n", "a@", "1-", " ", "&a;你;", "```~~~\n", "浣"]
)
def test_long_nonsense_takes_little_time(module: ModuleType, piece: str) -> None:
    start = time.process_time()
    change(module, piece * (20_000 // len(piece)))
    assert time.process_time() - start < 2.0


@given(TEXTS)
def test_prose_and_code_together_are_the_text(text: str) -> None:
    assert change_prose(text, lambda prose: prose) == text


@given(TEXTS.filter(lambda text: "`" not in text and "~" not in text))
def test_without_code_all_is_prose(text: str) -> None:
    assert change_prose(text, str.upper) == text.upper()


def test_a_change_that_loses_code_is_not_made() -> None:
    assert change_prose("你好`a`和`b`", lambda prose: prose[:3]) == "你好`a`和`b`"


def test_a_text_with_every_private_character_stays() -> None:
    text = "`a`b" + "".join(map(chr, range(0xE000, 0xE010)))
    assert change_prose(text, str.upper) == text


def test_a_change_that_never_settles_is_not_made() -> None:
    assert change_if_stable("好", lambda text: text + "好") == "好"


def test_simplified_can_be_made_traditional() -> None:
    config = script.Config(to="traditional")
    assert script.check_text("风景很漂亮，说明了问题。", config) == "風景很漂亮，說明了問題。"
    assert script.check_text("這說明了問題。", config) == "這說明了問題。"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("虚拟现实 （VR） 提供了 ，好处： 很多", "虚拟现实（VR）提供了，好处：很多"),
        ("**注意**:请看", "**注意**：请看"),
        ("Python,是一种语言!!", "Python，是一种语言！！"),
        ("省略......", "省略……"),
        ("因此f(x)是偶函数,(x+1)不是", "因此f(x)是偶函数，(x+1)不是"),
        ("增长１２．５％", "增长12.5%"),
    ],
)
def test_punctuation_follows_chinese_print(before: str, after: str) -> None:
    assert change(width, before) == after


@pytest.mark.parametrize(
    "text",
    [
        "见[链接](http://a.com/x)和图![猫](a.png)",
        "乔治.华盛顿",
        "一.背景",
        "打开报告.docx或报告(1).docx",
        "5!是120",
        "填空：（ ）",
        "缩进&nbsp;中文",
        'printf("你好,世界");',
        "if 年龄 > 3: # 检查,然后返回",
        "  价格    数量",
        "名称,价格,尺寸\nT恤,50元,大号",
    ],
)
def test_what_only_looks_like_punctuation_stays(text: str) -> None:
    assert change(width, text) == text


def test_each_half_of_width_can_be_left_out() -> None:
    assert width.check_text("Ａ,你好,", width.Config(punctuation=False)) == "A,你好,"
    assert width.check_text("Ａ你好,", width.Config(letters=False)) == "Ａ你好，"


@given(st.text("你我的是中文问题今天", min_size=2, max_size=20))
def test_chinese_read_as_gbk_is_repaired_or_left(text: str) -> None:
    try:
        damaged = text.encode().decode("gb18030")
    except UnicodeDecodeError:
        return
    assert change(mojibake, f"OK:{damaged}\n{text}") == f"OK:{text}\n{text}"


@given(st.text("今天气很好我们去公园散步说：“是”，。！ＡＢ１２abc \n", max_size=40))
def test_undamaged_chinese_is_never_repaired(text: str) -> None:
    assert change(mojibake, text) == text


def test_a_table_and_a_link_become_markdown() -> None:
    page = '<table><tr><th>国家</th></tr><tr><td>法国</td></tr></table><p>见<a href="https://a.cn">这里</a></p>'
    assert change(html, page) == "| 国家 |\n| --- |\n| 法国 |\n\n见[这里](https://a.cn)"


def test_an_export_loses_its_button() -> None:
    page = (
        "<p>如下：</p><pre><div><span>python</span><button><svg></svg>Copy code</button></div>"
        '<div><code class="hljs language-python">print(1)\n\n\n\nprint("&lt;b&gt;")</code></div></pre>'
    )
    assert change(html, page) == '如下：\n\n```python\nprint(1)\n\n\n\nprint("<b>")\n```'


def test_a_tag_spelled_with_entities_becomes_code() -> None:
    assert change(html, "<p>用&lt;b&gt;加粗</p>") == "用`<b>`加粗"


def test_plain_text_between_tags_keeps_its_lines_and_marks() -> None:
    assert change(html, "a_b*c<br>\n\n  - 一项\n若x<3且y>1") == "a_b*c\n\n  - 一项\n若x<3且y>1"


def test_only_a_chinese_text_gets_chinese_placeholders() -> None:
    assert change(pii, "Call 139 1234 5678") == "Call [phone]"
    assert change(pii, "电话(0755)8234567") == "电话[电话]"


@pytest.mark.parametrize(
    "text", ["138123456789", "0.13812345678", "13812345678 × 2", "a13812345678f", "1394-1234-5678"]
)
def test_other_long_numbers_stay(text: str) -> None:
    assert change(pii, text) == text


@given(st.dates(min_value=date(1900, 1, 1)), st.integers(0, 999))
def test_exactly_one_check_digit_makes_an_identity_number(day: date, order: int) -> None:
    start = f"110105{day:%Y%m%d}{order:03}"
    masked = [change(pii, f"{start}{last}") for last in "0123456789X"]
    assert masked.count("[ID number]") == (1 if start[6:8] in ("19", "20") else 0)


@pytest.mark.shared
def test_every_damaged_chain_of_thought_is_repaired(shared: Path) -> None:
    rows = [row for name in COT for row in json.loads((shared / f"alpaca-cot/{name}_train.json").read_text("utf-8"))]
    damaged = [text for row in rows for text in (row["instruction"], row["output"]) if "\\n" in text]
    assert sum("\\n" in row["instruction"] for row in rows) == 23_909
    assert [text for text in damaged if re.search(r"\\n", change(literal_newline, text))] == []


def chinese(shared: Path) -> Iterator[str]:
    with gzip.open(shared / "alpaca-zh-en/bilingual_50k.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield from (row["zh_instruction"], row["zh_input"], row["zh_output"])


@pytest.mark.shared
@pytest.mark.parametrize(("module", "most"), [(mojibake, 0), (literal_newline, 0), (script, 60), (html, 20), (pii, 60)])
def test_real_chinese_hardly_changes(shared: Path, module: ModuleType, most: int) -> None:
    changed = [text for text in chinese(shared) if change(module, text) != text]
    assert len(changed) <= most, changed[:3]
