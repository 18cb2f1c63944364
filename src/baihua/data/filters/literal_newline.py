"""Replaces a literal backslash and n that stand for a line break."""

import re
from typing import Literal

from baihua.core.config import Base
from baihua.data.clean.texts import change_if_stable, change_prose

CHANGED = {
    "请选择：\\n(A) 苹果\\n(B) 香蕉": "请选择：\n(A) 苹果\n(B) 香蕉",
    "Is this true?\\r\\nOptions:\\n- yes\\n- no": "Is this true?\nOptions:\n- yes\n- no",
    "面积是\\(x^2\\)。\\n所以\\neq不成立": "面积是\\(x^2\\)。\n所以\\neq不成立",
}
KEPT = [
    "print('你好\\n')",
    'printf("%d\\n", 3);',
    "用`\\n`换行",
    "换行符是\\n。",
    "文件在C:\\new\\notes.txt",
    '{"text": "第一行\\n第二行"}',
    "正则[^\\n]+匹配一行",
    "公式$\\nu = \\nabla f$成立，且$x \\neq y$。",
]

# Signs of a program: calls with a quoted text, assignments of one, includes, regular expressions, JSON.
CODE = re.compile(
    r"\w[(（]\s*[frbu]?[\"'“‘]|[=+]\s?[frbu]?[\"'“‘]\s?\\+[nt]|,\s?[\"'“‘](?:\\+[nt])+[\"'”’]|\w\s?=\s?[frbu]?[\"']|[\"'”]\s?\+\s?\w|<<|#include"
    r"|\\[dwsDWSb.](?![A-Za-z])|\[\^?\\+[nr]|\\+n[+*]?\)|\\r\?|[{,\[]\s*\"[^\"\n]{0,80}\"\s*:"
    r"|(?m:^)\s*(?:def \w+\(|import \w|from \w+ import|#!/)|(?:printf?|echo|puts)\b\s*[\"']"
)
# Texts about the two characters, or that quote them alone.
MENTION = re.compile(
    r"换行符|转义|回车符|newline character|escape (?:sequence|character)|line ?feed"
    r"|(?:^|[\s(（,，:：为是用即])[\"'“‘](?:\\+[nrt])+[\"'”’]",
    re.IGNORECASE,
)
# LaTeX commands, without their n. Some of them could also begin a word, so those count only next to other LaTeX.
ALWAYS_LATEX = "abla|eq|eg|otin|leq|geq|onumber|oindent|ewline|ewcommand|atural|subseteq|supseteq|earrow|warrow"
LATEX_TEXT = re.compile(r"[$]|\\[(\[{]|\\(?!n|r\\)[A-Za-z]{2,}")
ESCAPE = re.compile(r"(?<!\\)(?:\\+r)?\\+n")
COMMAND = re.compile(rf"(?:{ALWAYS_LATEX})(?![A-Za-z])")
COMMAND_IN_LATEX = re.compile(
    rf"(?:{ALWAYS_LATEX}|u|e|i|ot|exists|mid|olimits|sim|cong|parallel|ormalsize)(?![A-Za-z])"
)
DRIVE = re.compile(r"(?:^|[^A-Za-z]|\\n)[C-PR-Zc-pr-z]:(?:\\[^\\\s]+)*")
PATH_NAME = re.compile("[a-z0-9_]")
LONGEST_PATH = 260

SCOPE = "field"


class Config(Base):
    """No options; `check_text` describes the rule."""

    kind: Literal["literal_newline"] = "literal_newline"
    """The name of this filter."""


def check_text(text: str, config: Config) -> str:
    r"""The text with line breaks for `\n` and `\r\n`, with any number of backslashes before the letters.

    A text with signs of a program, a regular expression or JSON is kept unchanged, as is one about line breaks.
    In others, code, LaTeX commands (`\neq`; `\nu` and the like only next to other LaTeX) and names in Windows paths
    (`C:\new`) are kept.
    """
    if "\\n" not in text:
        return text
    return change_if_stable(text, lambda whole: change_prose(whole, _break_lines))


def _break_lines(text: str) -> str:
    if "\\n" not in text or CODE.search(text) or MENTION.search(text):
        return text
    commands = COMMAND_IN_LATEX if LATEX_TEXT.search(text) else COMMAND
    return ESCAPE.sub(lambda match: match.group() if _is_kept(match, commands) else "\n", text)


def _is_kept(match: re.Match[str], commands: re.Pattern[str]) -> bool:
    """Whether a backslash and n begin a LaTeX command or a name in a path."""
    text, start, end = match.string, match.start(), match.end()
    if end - start == 2 and commands.match(text, end):
        return True
    colon = text.rfind(":", max(0, start - LONGEST_PATH), start)
    in_path = colon > 0 and PATH_NAME.match(text, end) is not None
    return in_path and DRIVE.fullmatch(text, max(0, colon - 2), start) is not None
