"""Drops texts that repeat themselves, such as the output of a model that went in circles.

Characters are compared, so that Chinese needs no word list. Fenced code and lines of Markdown tables are removed
first, because they repeat by nature; so do songs, quizzes and timetables, which the default limits let pass.
A loop that counts ("第1天……第2天……") is found only if the number begins its line, as in a list.
"""

import re
import unicodedata
from typing import Literal

from pydantic import Field

from baihua.chat.zh import SENTENCE_ENDS
from baihua.core.config import Base
from baihua.data.clean.contract import Drop, Keep, Part
from baihua.data.clean.texts import grams, replace_blocks

_SEASONS = "春天播种，夏天除草，秋天收割，冬天休息。"
KEPT = [
    "哈哈哈哈哈哈！",
    _SEASONS * 3,
    "春风吹过山岗\n我在路上歌唱\n花儿开在心上\n" * 3,
    "| 月份 | 数量 |\n" + "| --- | --- |\n" + "| 三月 | 五 |\n" * 20,
    "请看代码：\n```python\n" + "print('你好')\n" * 30 + "```\n这样就可以了。",
    "目录" + "……" * 60 + "3",
    "0, 1, " * 60,
    "0 0 0 1 0 0 0 0\n" * 20,
    "\n".join(f"{a} x {b} = {a * b}" for a in range(2, 10) for b in range(2, 10)),
]
DROPPED = [
    "我喜欢吃苹果。" * 20,
    "好" * 100,
    "答案如下：" + _SEASONS * 12,
    "\n".join(f"{number}. 多喝热水，注意休息。" for number in range(1, 40)),
    "从前有座山，山里有座庙，庙里有个老和尚，正在给小和尚讲一个很长很长的故事：" * 8,
]

MAX_UNIT_CHARS = 20
# Laughter or a drum roll is a run too; a model that is stuck goes on for longer.
MIN_RUN_CHARS = 60
MIN_SENTENCES = 8
GRAM_CHARS = 10
# A short poem may be mostly refrain.
MIN_TEXT_CHARS = 100

_TABLE_LINE = re.compile(r"^[^\S\n]*\|[^\n]*", re.MULTILINE)
_BREAK = re.compile(rf"(?:[\n{SENTENCE_ENDS}；;]+|\.\s)\s*(?:\d+[.、)）．]|[-*•])?\s*")
_BLANK = re.compile(r"\s+|([-=_.·…—~*#])\1+")


class Config(Base):
    """How much of a text may be repeated."""

    kind: Literal["repetition"] = "repetition"
    """The name of this filter."""
    part: Part = "answers"
    """Texts of a row that are read together: all, questions or answers."""
    num_repeats: int = Field(default=8, ge=3)
    """How often a unit of up to 20 characters must follow itself, filling at least 60 characters; at least 3."""
    # Rae et al. 2021 (Gopher, arXiv 2112.11446, table A1) drop a web page with more than 0.2 of its characters in
    # repeated lines, or 0.1 in repeated 10-word n-grams. Answers are shorter, and songs, quizzes and timetables are
    # among them: of 50,000 Chinese ones some fifty are above 0.3 by either measure, nearly all of them sound, and only
    # four above 0.6: three broken ones and a timetable. Answers of a base model that went in circles had 0.5 to 0.7.
    maximum_sentences: float = Field(default=0.6, ge=0, le=1)
    """Largest share of characters in repeated sentences or lines, 0 to 1; for texts of at least 100 characters."""
    maximum_pieces: float = Field(default=0.6, ge=0, le=1)
    """Largest share of repeated 10-character n-grams, 0 to 1; for texts of at least 100 characters."""


def check_text(text: str, config: Config) -> Keep | Drop:
    """Drop a text with a long run of one unit, or made mostly of repeated sentences or n-grams."""
    # Only closed blocks: a model that gets stuck inside its code never closes it.
    text = replace_blocks(text, "", only_closed=True)
    text = _TABLE_LINE.sub("", text) if "|" in text else text
    if run := find_run(text, config.num_repeats):
        return Drop("repetition", f"{run[0]!r} {run[1]} times in a row")
    sentences, pieces = share_of_repeated_sentences(text), share_of_repeated_pieces(text)
    is_repeated = sentences > config.maximum_sentences or pieces > config.maximum_pieces
    # Numbers and formulas repeat by nature, so at least half of the characters must be letters.
    if is_repeated and sum(map(str.isalpha, text)) * 2 > sum(not char.isspace() for char in text):
        return Drop("repetition", f"{sentences:.2f} in repeated sentences, {pieces:.2f} in repeated pieces")
    return Keep()


def find_run(text: str, num_repeats: int) -> tuple[str, int] | None:
    """The first unit of up to 20 characters that follows itself this often and fills 60 characters, and its count.

    Digits, blanks, punctuation and symbols alone are rules, ellipses or numbers, not a run. Linear: every 20th position
    looks for its own 20 characters in the next 20 positions, and a run of 60 has such a position wherever it starts.
    """
    start = 0
    while start + MAX_UNIT_CHARS < len(text):
        anchor = text[start : start + MAX_UNIT_CHARS]
        again = text.find(anchor, start + 1, start + 2 * MAX_UNIT_CHARS)
        if again < 0:
            start += MAX_UNIT_CHARS
            continue
        first, end = _stretch(text, start, again - start)
        unit = text[first : first + again - start]
        repeats = (end - first) // len(unit)
        # Letters, and marks on letters.
        has_letter = any(unicodedata.category(char)[0] in "LM" for char in unit)
        if end - first >= MIN_RUN_CHARS and repeats >= num_repeats and has_letter:
            return unit, repeats
        start = end - MAX_UNIT_CHARS + 1
    return None


def share_of_repeated_sentences(text: str) -> float:
    """Share of characters in repeated sentences or lines, 0 to 1; list numbers are ignored.

    0 for fewer than 8 sentences or 100 characters. Sentences of fewer than 4 characters are left out.
    """
    parts = _BREAK.split(text) if len(text) >= MIN_TEXT_CHARS else []
    sentences = [sentence for sentence in parts if len(sentence) >= 4]
    if len(sentences) < MIN_SENTENCES:
        return 0.0
    return 1 - sum(map(len, set(sentences))) / sum(map(len, sentences))


def share_of_repeated_pieces(text: str) -> float:
    """Share of repeated 10-character n-grams, 0 to 1; 0 for fewer than 100 characters.

    Runs of blanks and of rules are shortened first.
    """
    text = _BLANK.sub(" ", text)
    if len(text) < MIN_TEXT_CHARS:
        return 0.0
    return 1 - len(grams(text, GRAM_CHARS)) / (len(text) - GRAM_CHARS + 1)


def _stretch(text: str, start: int, period: int) -> tuple[int, int]:
    """The start and end of the stretch around `start` that repeats with this period."""
    end = start + period
    while end < len(text) and text[end] == text[end - period]:
        end += 1
    while start > 0 and text[start - 1] == text[start - 1 + period]:
        start -= 1
    return start, end
