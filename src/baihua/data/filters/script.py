"""Converts Chinese to one script: traditional to simplified characters, or the other way round."""

import functools
import re
from typing import Literal

from opencc import OpenCC

from baihua.chat.zh import HAN_CHAR
from baihua.core.config import Base
from baihua.data.clean.texts import change_if_stable

CHANGED = {"這裡的風景很漂亮。": "这里的风景很漂亮。", "乾隆皇帝與乾燥的空氣": "乾隆皇帝与干燥的空气"}
KEPT = ["今天天气很好。", "Only English here.", "東京は今日も晴れです。"]

# Kana, and lone surrogates, which OpenCC cannot encode.
SPARED = re.compile("[\u3041-\u3096\u30a1-\u30fa\ud800-\udfff]")

SCOPE = "field"


class Config(Base):
    """The script that texts are converted to."""

    kind: Literal["script"] = "script"
    """The name of this filter."""
    to: Literal["simplified", "traditional"] = "simplified"
    """The script that all Chinese is converted to."""


def check_text(text: str, config: Config) -> str:
    """The text in one script; a text with kana is Japanese and is kept.

    OpenCC converts words, not single characters (乾隆 but 干燥). Rows about the scripts themselves become pointless:
    exclude such sources. With `to: traditional`, a text that is mainly traditional already is kept.
    """
    if not HAN_CHAR.search(text) or SPARED.search(text):
        return text
    return _simplify(text) if config.to == "simplified" else change_if_stable(text, _make_traditional)


@functools.cache
def load_converter(name: str) -> OpenCC:
    """One of OpenCC's converters (`t2s`, `s2t`), loaded once per process."""
    return OpenCC(name)


def _simplify(text: str) -> str:
    # A first conversion may form words that the next one converts.
    simplified = load_converter("t2s").convert(text)
    return text if simplified == text else _simplify(simplified)


def _make_traditional(text: str) -> str:
    # A traditional text must not be converted again: OpenCC would write 說明瞭 for 說明了.
    traditional, simplified = (load_converter(name).convert(text) for name in ("s2t", "t2s"))
    return traditional if _num_differing(text, traditional) > _num_differing(text, simplified) else text


def _num_differing(text: str, other: str) -> int:
    return sum(before != after for before, after in zip(text, other, strict=False))
