"""The chat page in a real browser, against a server with written answers."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from page_reading import texts, wait_for
from page_server import PageServer, Reply

from baihua.serve.web.errors import HttpError

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["page_browser"]
pytestmark = pytest.mark.extras
Say = Callable[[str], None]


def test_a_chinese_question_gets_its_streamed_answer(chat: "Page", server: PageServer, say: Say) -> None:
    server.replies = [Reply("你好👋，**“白话”**很高兴见到你。", num_chars_per_piece=1, seconds_per_piece=0.01)]
    say("你好，你是谁？")
    assert texts(chat, ".bubble") == ["你好，你是谁？"]
    assert texts(chat, ".answer .text") == ["你好👋，“白话”很高兴见到你。"]
    assert chat.locator(".answer strong").inner_text() == "“白话”"
    assert server.asked[0]["messages"] == [{"role": "user", "content": "你好，你是谁？"}]


def test_an_answer_is_shown_while_it_is_written(chat: "Page", server: PageServer, say: Say) -> None:
    server.replies = [Reply("第一句。", is_endless=True)]
    say("说")
    wait_for(chat, "第一句。")
    assert chat.locator(".answer.running").get_attribute("aria-busy") == "true"
    chat.press("#question", "Escape")
    wait_for(chat, "已停止")


def test_stopping_keeps_what_came_and_tells_the_server(chat: "Page", server: PageServer, say: Say) -> None:
    server.replies = [Reply("只说了一半", is_endless=True)]
    say("讲个长故事")
    wait_for(chat, "只说了一半")
    chat.click("#composer button")
    assert texts(chat, ".answer .text") == ["只说了一半"]
    chat.wait_for_function("() => document.querySelector('#composer button').title === '发送'")
    for _ in range(50):
        if server.num_left == 1:
            break
        chat.wait_for_timeout(20)
    assert server.num_left == 1


def test_the_foot_tells_tokens_and_speed(chat: "Page", server: PageServer, say: Say) -> None:
    server.replies = [Reply("一二三四五六七八九十", num_chars_per_piece=1, seconds_per_piece=0.02)]
    say("数到十")
    (foot,) = texts(chat, ".answer .meta")
    for part in ("10 字", "字/秒", "10 词元", "词元/秒", "上下文 22 / 4,096"):
        assert part in foot


def test_enter_of_an_input_method_does_not_send(chat: "Page", server: PageServer) -> None:
    chat.fill("#question", "nihao")
    for init in ({"isComposing": True}, {"keyCode": 229}):
        chat.locator("#question").evaluate(
            "(box, init) => box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true, ...init}))",
            init,
        )
    chat.press("#question", "Shift+Enter")
    assert chat.input_value("#question") == "nihao\n"
    assert server.asked == []


def test_an_edited_question_drops_what_followed_and_undo_brings_it_back(
    chat: "Page", server: PageServer, say: Say
) -> None:
    server.replies = [Reply("答一"), Reply("答二"), Reply("新答")]
    for question in ("问一", "问二"):
        say(question)
        texts(chat, ".answer")
    chat.locator(".question").first.hover()
    chat.locator(".question").first.get_by_role("button", name="修改后重发").click()
    chat.fill(".edit-box", "改过的问一")
    chat.press(".edit-box", "Enter")
    wait_for(chat, "新答")
    assert texts(chat, ".bubble") == ["改过的问一"]
    assert server.asked[-1]["messages"] == [{"role": "user", "content": "改过的问一"}]
    chat.get_by_role("button", name="撤销").click()
    assert texts(chat, ".bubble") == ["问一", "问二"]
    assert texts(chat, ".answer .text") == ["答一", "答二"]
    chat.get_by_role("button", name="切换").click()
    assert texts(chat, ".bubble") == ["改过的问一"]


def test_another_answer_replaces_the_last_and_keeps_it_aside(chat: "Page", server: PageServer, say: Say) -> None:
    server.replies = [Reply("第一稿"), Reply("第二稿")]
    say("写一句")
    texts(chat, ".answer")
    chat.get_by_role("button", name="重新回答").click()
    wait_for(chat, "第二稿")
    assert texts(chat, ".answer .text") == ["第二稿"]
    assert len(server.asked[1]["messages"]) == 1
    chat.get_by_role("button", name="切换").click()
    assert texts(chat, ".answer .text") == ["第一稿"]


def test_an_answer_cut_at_its_limit_can_go_on(chat: "Page", server: PageServer, say: Say) -> None:
    server.replies = [Reply("一半", finish="length"), Reply("另一半")]
    say("写长文")
    wait_for(chat, "已达长度上限，回答被截断")
    chat.get_by_role("button", name="继续").click()
    wait_for(chat, "另一半")
    assert server.asked[1]["messages"][-1] == {"role": "user", "content": "请继续。"}


@pytest.mark.parametrize(
    ("problem", "shown"),
    [
        (HttpError(429, "full", retry_after=7), ("现在提问的人太多", "约 7 秒后可以再试")),
        (HttpError(503, "stopping", retry_after=1), ("服务器正忙或正在停止", "秒后可以再试")),
        (HttpError(400, "long", code="context_length_exceeded"), ("超出了模型的上下文长度",)),
        (HttpError(404, "no model 'x'"), ("服务器上找不到", "no model 'x'")),
        (HttpError(400, "temperature: too high"), ("服务器返回错误", "temperature: too high")),
    ],
)
def test_a_refusal_is_told_calmly_and_can_be_tried_again(
    chat: "Page", server: PageServer, say: Say, problem: HttpError, shown: tuple[str, ...]
) -> None:
    server.replies = [Reply(problem=problem), Reply("这次行了。")]
    say("你好")
    message = chat.locator(".problem").inner_text()
    assert all(part in message for part in shown)
    chat.get_by_role("button", name="重试").click()
    wait_for(chat, "这次行了。")
    assert chat.locator(".problem").count() == 0


@pytest.mark.parametrize(
    ("reply", "shown"),
    [
        (Reply("开头", is_broken=True), "回答中途断开"),
        (Reply("开头", error="the model failed"), "the model failed"),
    ],
)
def test_a_stream_that_breaks_keeps_what_came(
    chat: "Page", server: PageServer, say: Say, reply: Reply, shown: str
) -> None:
    server.replies = [reply]
    say("你好")
    chat.locator(".problem").wait_for()
    assert shown in chat.locator(".problem").inner_text()
    assert texts(chat, ".answer .text") == ["开头"]


def test_everything_works_from_the_keyboard(chat: "Page", server: PageServer) -> None:
    server.replies = [Reply("一"), Reply("二"), Reply("三")]
    chat.keyboard.type("键盘提问")  # the box has the focus from the start
    chat.keyboard.press("Enter")
    texts(chat, ".answer")
    chat.keyboard.press("Alt+r")
    chat.locator(".text").get_by_text("二").wait_for()
    chat.keyboard.press("ArrowUp")
    chat.keyboard.type("，改")
    chat.keyboard.press("Enter")
    chat.locator(".text").get_by_text("三").wait_for()
    assert texts(chat, ".bubble") == ["键盘提问，改"]
    chat.keyboard.press("Alt+n")
    chat.locator("#hello").wait_for()
    assert chat.locator(".turn").count() == 0
    chat.keyboard.press("Alt+k")
    assert chat.evaluate("document.activeElement.id") == "search"
    chat.keyboard.press("Tab")
    chat.keyboard.press("Enter")
    assert texts(chat, ".bubble") == ["键盘提问，改"]
    chat.keyboard.press("Alt+s")
    assert chat.locator("#settings").is_visible()
    chat.keyboard.press("Escape")
    chat.locator("#scroll").focus()
    chat.keyboard.press("?")
    assert "Alt" in chat.locator(".keys").inner_text()


def test_languages_and_colours_switch_and_stay(chat: "Page") -> None:
    assert chat.get_attribute("html", "lang") == "zh-CN"
    chat.click("#language")
    assert chat.locator("#hello h1").inner_text() == "Hello! What would you like to talk about?"
    before = chat.evaluate("getComputedStyle(document.body).backgroundColor")
    for _ in range(2):
        chat.click("#scheme")
    chat.reload()
    assert chat.get_attribute("html", "lang") == "en"
    assert chat.get_attribute("html", "data-scheme") == "dark"
    assert chat.evaluate("getComputedStyle(document.body).backgroundColor") != before


def test_the_page_of_a_phone_fits_and_its_list_opens_over_it(browser, server: PageServer) -> None:
    context = browser.new_context(
        locale="zh-CN", viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto(server.address)
    server.replies = [Reply("很长的地址 https://example.com/" + "a" * 200 + "\n\n```\n" + "x" * 200 + "\n```")]
    page.fill("#question", "你好")
    page.tap("#composer button")
    texts(page, ".answer")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert not page.locator("#new-chat").is_visible()
    page.tap("#toggle")
    page.tap("#new-chat")
    page.locator("#hello").wait_for()
    page.wait_for_function("() => getComputedStyle(document.querySelector('#sidebar')).visibility === 'hidden'")
    context.close()
