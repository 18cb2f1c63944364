"""Drops texts that repeat themselves: a generator that got stuck, or a page that was glued together from one line.

Measured on characters, so that Chinese needs no word list. Code between ``` fences and lines of Markdown tables are
left out first, because they repeat by nature; so do songs, quizzes and timetables, which the default bounds let pass.
A loop that counts ("第1天……第2天……") is seen only where the number stands first in its line, as in a list.
"""

import re
import unicodedata
from typing import Literal

from pydantic import Field

from baihua.core.config import Base
from baihua.data.clean.contract import Drop, Keep, Part

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
# A laugh or a drum roll is a run too; a stuck generator goes on for longer.
MIN_RUN_CHARS = 60
MIN_SENTENCES = 8
GRAM_CHARS = 10
# A short poem is mostly refrain.
MIN_TEXT_CHARS = 100

# Only closed fences: a generator that gets stuck inside its code never closes it.
_SPARED = re.compile(r"```.*?```|^[^\S\n]*\|[^\n]*", re.DOTALL | re.MULTILINE)
_BREAK = re.compile(r"(?:[\n。！？!?；;]+|\.\s)\s*(?:\d+[.、)）．]|[-*•])?\s*")
_BLANK = re.compile(r"\s+|([-=_.·…—~*#])\1+")


class Config(Base):
    """How much of a text may say the same again."""

    kind: Literal["repetition"] = "repetition"
    """The name of this filter."""
    part: Part = "answers"
    """Which texts of a row are read together: all, questions or answers."""
    num_repeats: int = Field(default=8, ge=3)
    """How often in a row a unit of up to 20 characters must come to count, if it fills 60 characters; at least 3."""
    # Rae et al. 2021 (Gopher, arXiv 2112.11446, table A1) drop a web page above 0.2 of its characters in repeated
    # lines, or 0.1 in repeated pieces of ten words. Answers are shorter, and hold songs, quizzes and timetables: of
    # 50,000 Chinese ones some fifty are above 0.3 by either measure, nearly all in order, and above 0.6 only four:
    # three broken ones and a timetable. Answers of a base model that went in circles had 0.5 to 0.7.
    maximum_sentences: float = Field(default=0.6, ge=0, le=1)
    """Largest share of the characters in sentences or lines that came before, 0 to 1; from 100 characters on."""
    maximum_pieces: float = Field(default=0.6, ge=0, le=1)
    """Largest share of all 10-character pieces that came before, 0 to 1; from 100 characters on."""


def check_text(text: str, config: Config) -> Keep | Drop:
    """Drop a text with a long run of one unit, or made mostly of sentences or pieces that came before."""
    text = _without_spared(text)
    run = find_run(text, config.num_repeats)
    if run is not None:
        unit, num_repeats = run
        return Drop("repetition", f"{unit!r} {num_repeats} times in a row")
    sentences = share_of_repeated_sentences(text)
    pieces = share_of_repeated_pieces(text)
    is_repeated = sentences > config.maximum_sentences or pieces > config.maximum_pieces
    # Numbers and formulas repeat by nature; the letters are counted last, since few texts come this far.
    if is_repeated and _is_mostly_letters(text):
        return Drop("repetition", f"{sentences:.2f} in repeated sentences, {pieces:.2f} in repeated pieces")
    return Keep()


def find_run(text: str, num_repeats: int) -> tuple[str, int] | None:
    """The first unit of up to 20 characters that comes so often in a row and fills 60 characters, and how often.

    Digits, blanks, punctuation and symbols alone are rules, ellipses or numbers, not a run. Linear: every 20th place
    looks for its own 20 characters among the next 20 places, and a run of 60 holds such a place wherever it starts.
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
        if end - first >= MIN_RUN_CHARS and repeats >= num_repeats and any(map(_is_worded, unit)):
            return unit, repeats
        start = end - MAX_UNIT_CHARS + 1
    return None


def share_of_repeated_sentences(text: str) -> float:
    """Share of the characters in sentences or lines that came before, 0 to 1; list numbers do not tell them apart.

    0 for fewer than 8 sentences or 100 characters. Sentences of fewer than 4 characters are left out.
    """
    if len(text) < MIN_TEXT_CHARS:
        return 0.0
    sentences = [sentence for sentence in _BREAK.split(text) if len(sentence) >= 4]
    if len(sentences) < MIN_SENTENCES:
        return 0.0
    return 1 - sum(map(len, set(sentences))) / sum(map(len, sentences))


def share_of_repeated_pieces(text: str) -> float:
    """Share of the overlapping 10-character pieces that came before, 0 to 1.

    0 for fewer than 100 characters; runs of blanks and of rules are shortened first.
    """
    text = _BLANK.sub(" ", text)
    if len(text) < MIN_TEXT_CHARS:
        return 0.0
    num_pieces = len(text) - GRAM_CHARS + 1
    return 1 - len({text[start : start + GRAM_CHARS] for start in range(num_pieces)}) / num_pieces


def _without_spared(text: str) -> str:
    return _SPARED.sub("", text) if "```" in text or "|" in text else text


def _stretch(text: str, start: int, period: int) -> tuple[int, int]:
    """Where the stretch around `start` that repeats with this period begins and ends."""
    end = start + period
    while end < len(text) and text[end] == text[end - period]:
        end += 1
    while start > 0 and text[start - 1] == text[start - 1 + period]:
        start -= 1
    return start, end


def _is_worded(char: str) -> bool:
    """Whether a character is a letter or a mark on one."""
    return unicodedata.category(char)[0] in "LM"


def _is_mostly_letters(text: str) -> bool:
    num_marks = sum(not char.isspace() for char in text)
    return sum(map(str.isalpha, text)) * 2 > num_marks
