"""Converts HTML left over from web pages to Markdown, and removes leftovers of chat exports."""

import re
from collections import Counter
from typing import TYPE_CHECKING, Literal

from baihua.core.config import Base
from baihua.data.clean.texts import change_if_stable, change_prose

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag
    from bs4.element import PageElement

CHANGED = {
    "<p>你好，<b>世界</b>。</p><p>1 &lt; 2</p>": "你好，**世界**。\n\n1 < 2",
    "第一行<br>第二行\n\n下一段": "第一行\n第二行\n\n下一段",
    '<p>代码：</p><pre><code class="language-python">if a &lt; b:\n    f(a)</code></pre>': (
        "代码：\n\n```python\nif a < b:\n    f(a)\n```"
    ),
    "<ul><li>苹果</li><li>snake_case</li></ul>": "- 苹果\n- snake_case",
    "```pythonCopy code\nprint(1)\n```": "```python\nprint(1)\n```",
    '<div class="markdown">2 / 2<p>好的。</p></div>Copy12 chars / 3 words': "好的。",
}
KEPT = [
    "若a < b且c > d，则用List<int>。",
    "写一个HTML页面，包含<title>标签。",
    "用`<b>粗体</b>`加粗。",
    "```html\n<p>你好</p>\n```",
    "<!DOCTYPE html>\n<html><body><p>你好</p></body></html>",
    "<ul>\n  <li>苹果</li>\n</ul>",
    "HTML里<p>和</p>成对出现。",
    "1 / 2",
    "H<sub>2</sub>O",
]

KNOWN = (
    "div|p|br|hr|span|b|strong|i|em|a|font|center|blockquote|table|thead|tbody|tfoot|caption|tr|td|th|pre|code|ul|ol|li"
    "|h[1-6]|img|button|svg|path|polyline|rect|line"
)
# Every attribute needs its value: without, x<a and b>c would be a link.
REST = r"(?:\s+[\w:.-]+\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>“”]+))*\s*/?>"
TAG = re.compile(rf"<(?P<end>/?)(?P<name>{KNOWN})(?P<rest>{REST})", re.IGNORECASE)
NOT_A_TAG = re.compile(rf"<(?!/?(?:{KNOWN}){REST})", re.IGNORECASE)
BREAK = re.compile(rf"<br{REST}[ \t]*\n?", re.IGNORECASE)
VOID = {"br", "hr", "img"}
# Exports have these around code; anywhere else they were asked for.
WIDGETS = {"button", "svg", "path", "caption"}
# The converter recurses a few calls deep for each level.
DEEPEST = 100
# A page or part of one that was asked for: elements that prose never has, or indented tags.
PAGE = re.compile(
    r"<!DOCTYPE|<!--|</?(?:html|head|body|title|meta|link|style|script|form|fieldset|input|label|select|textarea|option"
    r"|canvas|iframe|nav|audio|video|picture)\b[^<>]*>"
    r"|^[ \t]+</?(?:div|p|ul|ol|li|table|thead|tbody|tr|td|th|h[1-6])\b[^<>]*>",
    re.IGNORECASE | re.MULTILINE,
)
# A single element other than a paragraph is more likely an example of HTML than prose.
ONE_ELEMENT = re.compile(
    r"\s*<(?:(a|b|h[1-6]|font|span)\b[^<>]*|(p|div)\s+(?:style|align)=[^<>]*)>[^<>]*</\w+>\s*", re.I
)
WRAPPED = re.compile(r"\s*<(?:p|div|ul|ol|table|pre|h[1-6]|blockquote)\b", re.I)
ABOUT_HTML = re.compile(
    r"HTML|CSS|XML|JSX|React|标签|标记|超文本|\btags?\b|\bmarkup\b|\w\(['\"]|^\s*(?:import|const)\s", re.I | re.M
)
TITLES = ["h1", "h2", "h3", "h4", "h5", "h6"]
BLOCKS = {
    "div",
    "p",
    "pre",
    "ul",
    "ol",
    "li",
    "table",
    "thead",
    "tbody",
    "tr",
    "td",
    "th",
    "blockquote",
    "hr",
    *TITLES,
}
ONE_LINE = ["td", "th", "code", *TITLES]
# White space as private characters: in HTML it has no meaning, so the converter would drop it, but ours is intended.
HIDDEN = str.maketrans("\n\t ", "\ue101\ue102\ue103")
SHOWN = str.maketrans("\ue101\ue102\ue103", "\n\t ")
IS_HIDDEN = re.compile("[\ue101-\ue103]")
INTENDED = re.compile(r"\n[ \t]*|[ \t]{2,}|\t")
SPARE_LINES = re.compile(r"[ \t]*\n(?:[ \t]*\n){2,}")
TRACE = re.compile("<|Copy|复制代码")
FENCE_NAME = re.compile(r"^(`{3,})[^\S\n]*\n?([\w+#.-]{0,20}?)(?:Copy code|复制代码)[^\S\n]*\n?", re.MULTILINE)
COUNTER = re.compile(r"\A\s*\d{1,3} / \d{1,3}[^\S\n]*\n\s*")
COPIED = re.compile(r"^Copy\d+ chars / \d+ words[^\S\n]*(?:\n|\Z)", re.MULTILINE)

SCOPE = "field"


class Config(Base):
    """No options; `check_text` describes the rule."""

    kind: Literal["html"] = "html"
    """The name of this filter."""


def check_text(text: str, config: Config) -> str:
    """The text with its HTML converted to Markdown, if it has a line break or a pair of tags outside code.

    HTML that is itself the subject is kept: a page, a form, a script, indented tags, a single element, an unmatched
    tag, and tags in a text about HTML. From chat exports, "Copy code" at a fence and "CopyN chars / M words" are
    removed, and with them or with HTML a first line "n / m".
    """
    return change_if_stable(text, _clean) if TRACE.search(text) else text


def _clean(text: str) -> str:
    cleaned = COPIED.sub("", change_prose(FENCE_NAME.sub(r"\1\2\n", text), _convert))
    if cleaned == text or not cleaned.strip():
        return text
    # A tag that was spelled with entities was meant to be visible.
    return change_prose(
        COUNTER.sub("", cleaned), lambda prose: SPARE_LINES.sub("\n\n", TAG.sub(r"`\g<0>`", prose)).strip("\n")
    )


def _convert(text: str) -> str:
    if not _has_markup(text) or IS_HIDDEN.search(text):
        return text
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    markup = BREAK.sub("\ue101", NOT_A_TAG.sub("&lt;", text))
    # The parser warns about a text that is only an address, hence the span.
    soup = BeautifulSoup(f"<span>{markup}</span>", "html.parser")
    for pre in soup.find_all("pre"):
        code = pre.find("code") or pre
        classes = " ".join(name for name in code.get_attribute_list("class") if name)
        language = re.search(r"(?:language|lang)-([\w+#-]+)", classes)
        pre["language"] = language[1] if language else ""
        pre.string = code.get_text().strip("\n")
    for widget in soup.find_all(["button", "svg"]):
        widget.decompose()
    _hide_white_space(soup)
    converter = MarkdownConverter(
        escape_asterisks=False,
        escape_underscores=False,
        heading_style="atx",
        bullets="-",
        table_infer_header=True,
        code_language_callback=lambda pre: pre.get("language"),
    )
    return converter.convert_soup(soup).translate(SHOWN)


def _has_markup(text: str) -> bool:
    """Whether a text has HTML that is complete and not its subject."""
    opened, closed, depth = Counter[str](), Counter[str](), 0
    for tag in TAG.finditer(text):
        name, is_end = tag["name"].lower(), bool(tag["end"])
        depth += 0 if name in VOID else -1 if is_end else 1
        (closed if is_end else opened)[name] += 1
        if depth > DEEPEST:
            return False
    # A pair or a line break, and no end without its start.
    if not opened.keys() & {*closed, "br", "hr"} or not closed <= opened:
        return False
    if PAGE.search(text) or ONE_ELEMENT.fullmatch(text) or ("pre" not in opened and WIDGETS & opened.keys()):
        return False
    return WRAPPED.match(text) is not None or not ABOUT_HTML.search(TAG.sub("", text))


def _hide_white_space(soup: "BeautifulSoup") -> None:
    for node in list(soup.find_all(string=True)):
        if node.find_parent("pre"):
            continue
        text = node.replace("\xa0", " ")
        if _is_border(node.previous_sibling, node.parent):
            text = text.lstrip(" \t\n\ue101")
        if _is_border(node.next_sibling, node.parent):
            text = text.rstrip(" \t\n\ue101")
        if node.find_parent(ONE_LINE):
            text = re.sub("[\ue101\\s]+", " ", text)
        node.replace_with(INTENDED.sub(lambda match: match.group().translate(HIDDEN), text))


def _is_border(sibling: "PageElement | None", parent: "Tag | None") -> bool:
    """Whether a block begins or ends between a text and its sibling."""
    from bs4 import Tag

    neighbour = parent if sibling is None else sibling
    return isinstance(neighbour, Tag) and neighbour.name in BLOCKS
