"""Repairs text that was decoded with the wrong encoding."""

import functools
import re
from collections.abc import Callable
from typing import Literal

from baihua.chat.zh import HAN_CHAR
from baihua.core.config import Base

CHANGED = {
    "浣犲ソ涓栫晫": "你好世界",
    "ä½\xa0å¥½": "你好",
    "It doesnâ€™t matter.": "It doesn’t matter.",
}
KEPT = [
    "今天天气很好。",
    "锟斤拷锟斤拷",
    "他说：“ＡＢＣ　１２３”……",
    "联通",
    "Il a été élu à Orléans, 25 °C, 3 × 4.",
]

# Anything but ASCII and what Chinese texts normally use: damaged texts always have such characters.
UNUSUAL = re.compile("[^\x00-\x7f\u00b0\u00b7\u00d7\u2010-\u2026\u2190-\u2193\u3000-\u9fff\uff00-\uffef]")
REPAIRED = re.compile("[\x00-\x7f\u00b7\u2010-\u2026\u3000-\u303f\u3400-\u9fff\uff00-\uffef]*")
# Level 1 of GB 2312 holds the 3,755 commonest characters: nearly all of a Chinese text, but seldom half of one in
# the wrong encoding (median 0.1, 99th percentile 0.5 over 3,925 lines).
LEVEL_1 = range(0xB0A1, 0xD7FA)
MOST_BEFORE = 0.6
LEAST_AFTER = 0.7
LEAST_RISE = 0.3

SCOPE = "field"


class Config(Base):
    """No options: only text that is certainly damaged is repaired."""

    kind: Literal["mojibake"] = "mojibake"
    """The name of this filter."""


def check_text(text: str, config: Config) -> str:
    """The text as it was written, if its UTF-8 was decoded with a Western encoding (ftfy) or, line by line, with GBK.

    A line is repaired from GBK only if its bytes are valid UTF-8 and it then has far more common characters.
    Widths, quotes, entities and line breaks are kept; lost characters (锟斤拷) cannot be restored.
    """
    while True:
        repaired = load_western_repair()(text) if UNUSUAL.search(text) else text
        if HAN_CHAR.search(repaired):
            repaired = "\n".join(map(_repair_gbk, repaired.split("\n")))
        if len(repaired) >= len(text):
            return text
        text = repaired


@functools.cache
def load_western_repair() -> Callable[[str], str]:
    """ftfy with only its repair of encodings."""
    from ftfy import TextFixerConfig, fix_text

    config = TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        replace_lossy_sequences=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )
    return functools.partial(fix_text, config=config)


def _repair_gbk(line: str) -> str:
    try:
        repaired = line.encode("gb18030").decode("utf-8")
    except UnicodeError:
        return line
    if repaired == line or not REPAIRED.fullmatch(repaired):
        return line
    before, after = _common_share(line), _common_share(repaired)
    is_better = before <= MOST_BEFORE and after >= LEAST_AFTER and after - before >= LEAST_RISE
    return repaired if is_better else line


def _common_share(line: str) -> float:
    """Share of GB 2312's level 1 among the Han characters, 0 to 1."""
    codes = [int.from_bytes(char.encode("gb2312", "replace"), "big") for char in HAN_CHAR.findall(line)]
    return sum(code in LEVEL_1 for code in codes) / len(codes) if codes else 0.0
