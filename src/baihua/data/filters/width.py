"""Writes Chinese the way it is printed: half-width letters and digits, full-width punctuation."""

import re
from typing import Literal

from baihua.chat.zh import HAN, HAN_CHAR
from baihua.core.config import Base
from baihua.data.clean.texts import change_prose

CHANGED = {
    "你好,世界!": "你好，世界！",
    "共１２８人，占３０％。": "共128人，占30%。",
    "北京(Beijing)是首都.": "北京（Beijing）是首都。",
    "\u3000\u3000从前有座山 ，山里有座庙。": "从前有座山，山里有座庙。",
    "等一下...": "等一下……",
}
KEPT = [
    "圆周率是3.14，人口1,000万，会议12:30开始。",
    "1.均衡饮食",
    "1)多喝水",
    "打开文件report.txt，网址是https://example.com/a?b=1。",
    "运行`print(1,2)`，然后看f(x)的值。",
    "The word 你好, which you hear every day, means hello.",
    "Wait... what?",
]

# Not ＜＞＊＃＿｀｜＼～: their half-width forms are markup, and ～ is correct in Chinese ranges.
WIDE = {ord(char): ord(char) - 0xFEE0 for char in "％＋－＝＠＆／＄"}
WIDE |= {code: code - 0xFEE0 for first, last in ("０９", "ＡＺ", "ａｚ") for code in range(ord(first), ord(last) + 1)}
WIDE |= {0x3000: 0x20}
WIDE_CHAR = re.compile("[" + "".join(map(chr, WIDE)) + "．]")
INDENT = re.compile("^\u3000+", re.MULTILINE)
WIDE_POINT = re.compile("(?<=[0-9])．(?=[0-9])")

FULL = "，。！？：；（）、"
TO_FULL = str.maketrans(",.!?:;()", "，。！？：；（）")
LATIN_WORD = re.compile("[A-Za-z]+")
HALF = re.compile("[,.!?:;()]")
BLOCK_BRACE = re.compile("[{}][ \t]*(?:\n|$)")
ROW = r"[^,\n，。；！？]+(?:,[^,\n，。；！？]*){2,}"
VALUES = re.compile(ROW)
TABLE = re.compile(rf"^{ROW}\n{ROW}$", re.MULTILINE)
CODE_LINE = re.compile(
    r"[{}]\s*$|\)\s*;\s*$|\w\(['\"]|<<|==|&&|</?\w[^<>]*>"
    r"|^\s*(?:#include|def|class|import|from|return|print|if|for|while)\b.*[(:;]"
)

# All patterns begin with the mark itself and look back from there: much faster than a lookahead at every position.
DOTS = re.compile(f"。{{3,}}|[.]{{3,}}(?=[{HAN}])|(?<=[{HAN}])[.]{{3,}}")
# Closing marks that may come between a Chinese word and its punctuation.
CLOSERS = "”’》」』】）"
MARK = re.compile(
    "[,.!?:;](?:"
    # After a Chinese word, perhaps bold, unless the next characters make it code, such as `?q=`, `:)`, `![`.
    rf"(?<=[{HAN}{CLOSERS}][,:;!?])[!?]*(?!=|(?<=:)(?://|-?[)(](?:\s|$))|(?<=!)\[|(?<=[?])[A-Za-z_]\w{{0,30}}=)"
    rf"|(?<=[{HAN}{CLOSERS}][*][*][,:;])(?=\s?[{HAN}]|$)"
    rf"|(?<=[{HAN}] [,:;!?])[!?]*(?=\s|$|[{HAN}])"
    # Before one, after something else; 5! is a factorial.
    rf"|(?<=[\w%*\"')$\uE000-\uE00F][,:;])(?=\s?[{HAN}“《])"
    rf"|(?<=[A-Za-z\"')\uE000-\uE00F][!?])[!?]*(?=\s?[{HAN}])"
    # 乔治.华盛顿 is a name, so a full stop must end a sentence.
    rf"|(?<=[{HAN}{CLOSERS})][.])(?=\s|$|[{CLOSERS}\")])"
    ")"
)
# Not punctuation: the dot of a list number such as 一. and the end of an entity such as &nbsp;
LIST_NUMBER = re.compile(r"\s*第?[一二三四五六七八九十甲乙丙丁]{1,4}[.]")
ENTITY = re.compile(r"&\w{2,8};")
LONGEST_ENTITY = 10
MATH = re.compile(r"[=+*/^<>|,\\]|\d-\d")
FILE_ENDING = re.compile(r"[.]\w")
WORD_END = re.compile(r"[A-Za-z0-9_]$")
SPACE = re.compile(rf" (?:(?<=[{HAN}\w，。！？：；）、…”》] )(?=[{FULL}])|(?<=[{FULL}] )(?=[{HAN}A-Za-z0-9“《（…]))")

SCOPE = "field"


class Config(Base):
    """Which characters are converted."""

    kind: Literal["width"] = "width"
    """The name of this filter."""
    letters: bool = True
    """Convert full-width letters, digits, spaces and signs such as ％ to half width, and remove paragraph indents."""
    punctuation: bool = True
    """Convert half-width punctuation next to Chinese to full width, and remove spaces around it."""


def check_text(text: str, config: Config) -> str:
    """The text in the usual widths; code, addresses, numbers, list markers and English lines are kept."""
    return change_prose(text, lambda prose: _change_prose(prose, config))


def _change_prose(text: str, config: Config) -> str:
    if config.letters and WIDE_CHAR.search(text):
        text = WIDE_POINT.sub(".", INDENT.sub("", text).translate(WIDE))
    if not config.punctuation or not HAN_CHAR.search(text):
        return text
    lines = text.split("\n")
    changed = [_punctuate(line) for line in lines]
    if changed == lines:
        return text
    is_code, is_table = BLOCK_BRACE.search(text) is not None, TABLE.search(text) is not None
    pairs = zip(lines, changed, strict=True)
    return "\n".join(old if old == new or _is_kept(old, is_code, is_table) else new for old, new in pairs)


def _punctuate(line: str) -> str:
    if HALF.search(line):
        if "(" in line or ")" in line:
            line = _widen_brackets(line)
        line = MARK.sub(_widen, DOTS.sub("……", line))
    elif "。。。" in line:
        line = DOTS.sub("……", line)
    return SPACE.sub("", line) if " " in line else line


def _is_kept(line: str, is_code: bool, is_table: bool) -> bool:
    """Whether a line is code, a row of comma-separated values, or more English than Chinese."""
    if CODE_LINE.search(line) or (is_code and line.rstrip().endswith(";")) or (is_table and VALUES.fullmatch(line)):
        return True
    return len(LATIN_WORD.findall(line)) > len(HAN_CHAR.findall(line))


def _widen(match: re.Match[str]) -> str:
    found, line, end = match.group(), match.string, match.end()
    if found == "." and LIST_NUMBER.fullmatch(line, 0, end):
        return found
    entity = line.rfind("&", max(0, end - LONGEST_ENTITY), end) if found == ";" else -1
    return found if entity >= 0 and ENTITY.fullmatch(line, entity, end) else found.translate(TO_FULL)


def _widen_brackets(line: str) -> str:
    chars, opened = list(line), list[int]()
    for place, char in enumerate(line):
        if char in "(（":
            opened.append(place)
        elif char in ")）" and opened:
            first = opened.pop()
            if _is_chinese_pair(line, first, place):
                chars[first], chars[place] = "（", "）"
    return "".join(chars)


def _is_chinese_pair(line: str, first: int, last: int) -> bool:
    """Whether a pair of brackets is part of Chinese prose, not of a link, a call, a formula or a list marker."""
    before, after = line[max(0, first - 2) : first], line[last + 1 : last + 3]
    if before.endswith("]") or FILE_ENDING.match(after):
        return False
    if HAN_CHAR.search(line, first, last) or (line[first] == "(") != (line[last] == ")"):
        return True
    if MATH.search(line, first, last):
        return False
    if HAN_CHAR.match(before.strip()[-1:]):
        return True
    return last - first > 3 and HAN_CHAR.match(after) is not None and not WORD_END.search(before)
