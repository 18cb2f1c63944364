"""Both pages on their real servers."""

import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from live_server import live, served
from page_reading import DONE
from scripted_engine import END, ScriptedEngine

from baihua.backends.replay import ReplayChat
from baihua.chat.types import Piece, Sampling
from baihua.data.formats.questions import Question
from baihua.serve.arena.app import make_arena
from baihua.serve.arena.battles import Battles
from baihua.serve.arena.votes import Votes, read_votes

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

pytest_plugins = ["page_browser"]
pytestmark = pytest.mark.extras


@pytest.mark.parametrize("key", [None, "sk-right"])
def test_the_page_and_the_server_understand_each_other(context: "BrowserContext", key: str | None) -> None:
    engine = ScriptedEngine(Piece("你好"), Piece("👋，"), Piece("**世界**。"), END)
    with served({"small": engine}, key=key) as url:
        page = context.new_page()
        page.goto(url)
        if key:
            page.fill("#key", key)
            page.press("#key", "Enter")
        page.locator("#model option").wait_for(state="attached")
        page.click("#open-settings")
        for name, value in {
            "system": "只说中文。",
            "temperature": "1",
            "top_p": "0.9",
            "max_tokens": "32",
            "seed": "1",
        }.items():
            page.fill(f"#set-{name}", value)
        page.fill("#set-stop", "。。")
        page.press("#settings", "Escape")
        page.fill("#question", "你好")
        page.press("#question", "Enter")
        page.locator(DONE).wait_for()
        assert page.locator(".text").inner_text() == "你好👋，世界。"
        assert "2 词元" in page.locator(".meta").inner_text()
    ((ids, sampling, _),) = engine.asked
    assert "只说中文。" in bytes(one for one in ids if one < 256).decode()
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.seed) == (1.0, 0.9, 32, 1)


def test_stopping_in_the_page_stops_the_engine(context: "BrowserContext") -> None:
    engine = ScriptedEngine(Piece("开头"), None, END)
    with served({"small": engine}) as url:
        page = context.new_page()
        page.goto(url)
        page.locator("#model option").wait_for(state="attached")
        page.fill("#question", "讲个故事")
        page.press("#question", "Enter")
        page.locator(".text").get_by_text("开头").wait_for()
        page.keyboard.press("Escape")
        page.locator(DONE).wait_for()
        assert engine.was_left.wait(30)
        engine.go.set()


def test_a_conversation_too_long_for_the_model_is_told(context: "BrowserContext") -> None:
    with served({"small": ScriptedEngine(END, num_ctx=64)}) as url:
        page = context.new_page()
        page.goto(url)
        page.locator("#model option").wait_for(state="attached")
        page.fill("#question", "很长" * 100)
        page.press("#question", "Enter")
        assert "超出了模型的上下文长度" in page.locator(".problem").inner_text()


def test_the_arena_page_votes_on_the_real_server(context: "BrowserContext", tmp_path: Path) -> None:
    models = {name: ReplayChat({None: f"{name}的回答。"}, name=name) for name in ("甲型", "乙型")}
    questions = [Question(f"q{number}", (f"问题{number}？",), "常识") for number in range(3)]
    votes = Votes(tmp_path / "votes.jsonl")
    battles = Battles(
        models, votes, questions={one.id: one for one in questions}, sampling=Sampling(), rng=random.Random(3)
    )
    with live(make_arena(battles, key=None)) as url:
        page = context.new_page()
        page.goto(url)
        for number, click in enumerate((".vote-a", ".vote-b", ".vote-tie")):
            page.get_by_text(f"问题{number}？").first.wait_for()
            page.locator("#task button").click()
            page.locator(".vote:not([disabled])").first.wait_for()
            page.click(click)
            page.locator(".revealed").first.wait_for()
            assert set(page.locator(".cell .name").all_inner_texts()) == set(models)
            page.get_by_role("button", name=re.compile("下一")).click()
            page.locator("#hello").wait_for()
        page.click("#tab-table")
        page.get_by_text("甲型").first.wait_for()
        page.get_by_text("乙型").first.wait_for()
    assert [row["vote"] for row in read_votes(tmp_path / "votes.jsonl")] == ["a", "b", "tie"]
