"""What a model writes stays harmless, and what the server wants to know stays here."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from page_reading import DONE
from page_server import PageServer, Reply, serve_pages

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytest_plugins = ["page_browser"]
pytestmark = pytest.mark.extras
# Each would run a script, or load something of somebody else's, if it became markup.
EVIL = [
    "<script>window.wasHit = 1</script>",
    '<img src="https://example.com/a.png" onerror="window.wasHit = 1">',
    '<img src=x onerror="window.wasHit = 1">',
    '<iframe src="https://example.com/"></iframe><svg onload="window.wasHit = 1"></svg>',
    "[押](javascript:window.wasHit=1) [d](data:text/html,<script>window.wasHit=1</script>) [v](vbscript:x)",
    "[r]: javascript:window.wasHit=1\n\n[r] <javascript:window.wasHit=1>",
    "![图](https://example.com/b.png) [![内](https://example.com/c.png)](https://example.com/)",
    '<style>@import "https://example.com/d.css"</style><link rel=stylesheet href=https://example.com/e.css>',
    '```html" onmouseover="window.wasHit=1\n<script>window.wasHit = 1</script>\n```',
    '<a href="x" style="position:fixed;inset:0" id="composer">z</a> <form id=question></form>',
    "| a |\n|:-:|\n| <img src=https://example.com/f.png> |",
    "&lt;script&gt;window.wasHit=1&lt;/script&gt; \u0000 <!-- <script>window.wasHit=1</script> -->",
    "$<img src=x onerror=window.wasHit=1>$ \\(<script>window.wasHit=1</script>\\)",
]


def test_what_a_model_writes_runs_nothing_and_loads_nothing(
    chat: "Page", server: PageServer, say: Callable[[str], None]
) -> None:
    refused: list[str] = []
    chat.on("console", lambda message: refused.append(message.text) if message.type == "error" else None)
    asked: list[str] = []
    chat.on("request", lambda request: asked.append(request.url))
    for text in [*EVIL, "\n\n".join(EVIL)]:
        server.replies.append(Reply(text, num_chars_per_piece=7))
        say(text)
        chat.locator(DONE).last.wait_for()
        chat.wait_for_function("() => document.querySelector('#composer button').title === '发送'")
    chat.locator(".text a").first.hover()
    chat.wait_for_timeout(100)
    assert chat.evaluate("window.wasHit") is None
    assert refused == []  # nothing even came as far as the policy of the page
    ours = ("/v1/chat/completions", "/pages/icons.svg", "/pages/mark.svg")
    assert [url for url in asked if url.removeprefix(server.address) not in ours] == []
    found = chat.evaluate(
        """() => {
          const isTag = (one) => /^(script|img|iframe|style|link|form|object|embed)$/i.test(one.tagName);
          const isCode = ({ name, value }) =>
            name.startsWith('on') || name === 'style' || /^(javascript|data|vbscript):/i.test(value);
          const isEvil = (one) => isTag(one) || [...one.attributes].some(isCode);
          return [...document.querySelectorAll('#thread *')].filter(isEvil).map((one) => one.outerHTML);
        }"""
    )
    assert found == []


def test_links_open_elsewhere_and_tell_nothing(chat: "Page", server: PageServer, say: Callable[[str], None]) -> None:
    server.replies = [Reply("[好](https://example.com/a?b=1) [坏](javascript:x) [内](/v1/models) [信](mailto:a@b.c)")]
    say("链接")
    chat.locator(DONE).wait_for()
    links = chat.locator(".text a").evaluate_all("(all) => all.map((a) => [a.getAttribute('href'), a.target, a.rel])")
    safe = ["_blank", "noopener noreferrer"]
    assert links == [["https://example.com/a?b=1", *safe], [None, *safe], ["mailto:a@b.c", *safe]]


def test_an_image_is_told_and_not_loaded(chat: "Page", server: PageServer, say: Callable[[str], None]) -> None:
    server.replies = [Reply("看：![一只猫](https://example.com/cat.png)")]
    say("画一只猫")
    chat.locator(DONE).wait_for()
    assert chat.locator(".image-text").inner_text() == "图片（未载入）：一只猫 https://example.com/cat.png"


def test_a_question_is_shown_as_it_was_typed(chat: "Page", say: Callable[[str], None]) -> None:
    say("<b>粗</b> **星** <script>window.wasHit=1</script>")
    assert chat.locator(".bubble").inner_text() == "<b>粗</b> **星** <script>window.wasHit=1</script>"


def test_the_key_is_asked_for_and_forgotten_with_the_tab(context: "BrowserContext") -> None:
    with serve_pages("chat.html", key="sk-right") as server:
        page = context.new_page()
        page.goto(server.address)
        page.fill("#key", "sk-wrong")
        page.press("#key", "Enter")
        page.get_by_text("密钥不正确。").wait_for()
        page.fill("#key", "sk-right")
        page.press("#key", "Enter")
        page.locator("#model option").wait_for(state="attached")
        page.fill("#question", "你好")
        page.press("#question", "Enter")
        page.locator(DONE).wait_for()
        assert page.evaluate("sessionStorage.getItem('baihua.key')") == "sk-right"
        assert "sk-right" not in page.evaluate("JSON.stringify(localStorage)")


def test_without_a_key_the_page_says_so(context: "BrowserContext") -> None:
    with serve_pages("chat.html", key="sk-right") as server:
        page = context.new_page()
        page.goto(server.address)
        page.locator("#key").press("Escape")
        page.get_by_text("没有有效的密钥，服务器拒绝了请求。").wait_for()
        page.get_by_role("button", name="重试").click()
        page.locator("#key").wait_for()


def test_a_server_that_is_gone_is_told(context: "BrowserContext") -> None:
    with serve_pages("chat.html") as server:
        page = context.new_page()
        page.goto(server.address)
        page.locator("#model option").wait_for(state="attached")
    page.fill("#question", "还在吗？")
    page.press("#question", "Enter")
    assert "无法连接服务器" in page.locator(".problem").inner_text()
