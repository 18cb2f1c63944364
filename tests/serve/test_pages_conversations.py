"""Conversations of the chat page: kept, found, changed, taken along."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from page_reading import texts, wait_for
from page_server import PageServer, Reply

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytest_plugins = ["page_browser"]
pytestmark = pytest.mark.extras
Say = Callable[[str], None]


def test_a_new_chat_is_empty_and_the_old_one_stays(chat: "Page", say: Say) -> None:
    say("第一段对话")
    texts(chat, ".answer")
    chat.click("#new-chat")
    chat.locator("#hello").wait_for()
    assert chat.locator(".turn").count() == 0
    say("第二段对话")
    assert texts(chat, ".chat-name") == ["第二段对话", "第一段对话"]
    chat.get_by_role("button", name="第一段对话").click()
    assert texts(chat, ".bubble") == ["第一段对话"]


def test_conversations_survive_a_reload(chat: "Page", server: PageServer, say: Say) -> None:
    server.replies = [Reply("记住了。")]
    say("记住这句话")
    before = texts(chat, ".turn")
    chat.reload()
    assert texts(chat, ".turn") == before
    assert texts(chat, ".chat-name") == ["记住这句话"]


def test_an_answer_that_was_left_is_kept_as_far_as_it_came(chat: "Page", server: PageServer, say: Say) -> None:
    server.replies = [Reply("才说了这些", is_endless=True)]
    say("慢慢说")
    wait_for(chat, "才说了这些")
    chat.reload()
    assert texts(chat, ".answer .text") == ["才说了这些"]
    assert "回答完成前页面已关闭" in texts(chat, ".answer .meta")[0]


def test_settings_are_sent_and_belong_to_one_conversation(chat: "Page", server: PageServer, say: Say) -> None:
    chat.click("#open-settings")
    for name, value in {"system": "只说中文。", "temperature": "0.2", "max_tokens": "64", "seed": "7"}.items():
        chat.fill(f"#set-{name}", value)
    chat.fill("#set-top_p", "3")  # out of its range: left out
    chat.fill("#set-stop", "。\n\\n\\n")
    chat.press("#settings", "Escape")
    say("你好")
    texts(chat, ".answer")
    asked = server.asked[0]
    assert asked["messages"][0] == {"role": "system", "content": "只说中文。"}
    assert (asked["temperature"], asked["max_tokens"], asked["seed"], asked["stop"]) == (0.2, 64, 7, ["。", "\n\n"])
    assert "top_p" not in asked
    chat.reload()
    chat.click("#open-settings")
    assert chat.input_value("#set-stop") == "。\n\\n\\n"
    chat.press("#settings", "Escape")
    chat.click("#new-chat")
    chat.locator("#hello").wait_for()
    say("另一段")
    texts(chat, ".answer")
    assert set(server.asked[1]) == {"model", "messages", "stream", "stream_options"}


def test_settings_can_become_those_of_new_conversations(chat: "Page", server: PageServer, say: Say) -> None:
    chat.click("#open-settings")
    chat.fill("#set-temperature", "0")
    chat.click("#settings-defaults")
    chat.press("#settings", "Escape")
    chat.reload()
    say("你好")
    texts(chat, ".answer")
    assert server.asked[0]["temperature"] == 0


def test_another_model_answers_once_it_is_chosen(context: "BrowserContext", server: PageServer) -> None:
    server.models = ["small", "large"]
    page = context.new_page()
    page.goto(server.address)
    page.select_option("#model", "large")
    page.fill("#question", "你好")
    page.press("#question", "Enter")
    assert texts(page, ".model-name") == ["large"]
    assert server.asked[0]["model"] == "large"


def test_conversations_are_renamed_deleted_and_brought_back(chat: "Page", say: Say) -> None:
    say("原来的名字")
    texts(chat, ".answer")
    chat.locator(".chat").hover()
    chat.get_by_role("button", name="重命名").click()
    chat.fill(".chat-rename", "新的名字")
    chat.press(".chat-rename", "Enter")
    assert texts(chat, ".chat-name") == ["新的名字"]
    chat.locator(".chat").hover()
    chat.get_by_role("button", name="删除").click()
    assert chat.locator(".chat").count() == 0
    chat.get_by_role("button", name="撤销").click()
    assert texts(chat, ".chat-name") == ["新的名字"]
    assert texts(chat, ".bubble") == ["原来的名字"]


def test_a_conversation_deleted_while_it_is_answered_stays_deleted(chat: "Page", server: PageServer, say: Say) -> None:
    server.replies = [Reply("说了一半", is_endless=True)]
    say("慢慢说")
    chat.locator(".text").get_by_text("说了一半").wait_for()
    chat.locator(".chat").hover()
    chat.get_by_role("button", name="删除").click()
    chat.locator("#hello").wait_for()
    chat.wait_for_timeout(100)
    assert chat.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('baihua.chat.'))") == []
    chat.get_by_role("button", name="撤销").click()
    assert texts(chat, ".answer .text") == ["说了一半"]


def test_search_finds_by_any_message(chat: "Page", server: PageServer, say: Say) -> None:
    server.replies = [Reply("京剧、昆曲和 Ｊａｚｚ。"), Reply("菜谱")]
    for question in ("说说音乐", "说说吃的"):
        chat.click("#new-chat")
        chat.locator("#hello").wait_for()
        say(question)
        texts(chat, ".answer")
    chat.fill("#search", "jazz")
    assert texts(chat, ".chat-name") == ["说说音乐"]
    chat.fill("#search", "没有的词")
    chat.get_by_text("没有找到。").wait_for()


def test_exports_are_rows_of_conversations_and_markdown(
    chat: "Page", server: PageServer, say: Say, tmp_path: Path
) -> None:
    server.replies = [Reply("**好**的。")]
    say("写/好：吗？")
    texts(chat, ".answer")
    found = {}
    for name in ("jsonl", "markdown"):
        chat.click("#open-export")
        with chat.expect_download() as download:
            chat.click(f"#export-{name}")
        file = tmp_path / download.value.suggested_filename
        download.value.save_as(file)
        found[file.suffix] = file.read_text(encoding="utf-8")
    turns = [{"role": "user", "content": "写/好：吗？"}, {"role": "assistant", "content": "**好**的。"}]
    assert json.loads(found[".jsonl"]) == {"messages": turns}
    assert found[".md"] == "# 写/好：吗？\n\n## 你\n\n写/好：吗？\n\n## baihua-1.7b\n\n**好**的。\n"


def test_a_full_storage_is_told(chat: "Page", say: Say) -> None:
    chat.evaluate(
        """() => {
          let part = 'x'.repeat(1 << 20);
          for (let i = 0; part.length > 1; i++) {
            try { localStorage.setItem('fill' + i, part); } catch { part = part.slice(part.length / 2); }
          }
        }"""
    )
    say("放不下了")
    chat.get_by_text("浏览器存储空间已满").wait_for()
    assert texts(chat, ".answer .text") == ["好的。"]
