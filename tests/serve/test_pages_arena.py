"""The arena in a real browser, against a server with written answers."""

from typing import TYPE_CHECKING

import pytest
from page_server import PageServer, Reply

from baihua.serve.web.errors import HttpError

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytest_plugins = ["page_browser"]
pytestmark = pytest.mark.extras
FIRST = {"rank": 1, "model": "baihua-1.7b", "rating": 1040.2, "low": 960.0, "high": 1120.0}
SECOND = {"rank": 2, "model": "baihua-0.6b", "rating": None, "low": None, "high": None}
TABLE = {
    "num_votes": 3,
    "rows": [
        {**FIRST, "num_battles": 3, "num_wins": 2, "num_losses": 0, "num_ties": 1, "num_both_bad": 0},
        {**SECOND, "num_battles": 3, "num_wins": 0, "num_losses": 2, "num_ties": 1, "num_both_bad": 0},
    ],
    "pairs": [{"a": "baihua-1.7b", "b": "baihua-0.6b", "a_wins": 2, "b_wins": 0, "ties": 1, "both_bad": 0}],
    "note": "few_votes",
}


@pytest.fixture
def arena(context: "BrowserContext", arena_server: PageServer) -> "Page":
    page = context.new_page()
    page.goto(arena_server.address)
    page.get_by_text("从 3 个模型中随机抽取两个").wait_for()
    return page


def ask(page: "Page", text: str) -> None:
    page.fill("#question", text)
    page.press("#question", "Enter")


def wait_for_votes(page: "Page") -> None:
    page.locator(".vote:not([disabled])").first.wait_for()


def test_three_votes_and_the_table(arena: "Page", arena_server: PageServer) -> None:
    arena_server.table = TABLE
    for question, click in [("写一首诗", ".vote-a"), ("什么是白话？", ".vote-tie"), ("三加四？", ".vote-both_bad")]:
        arena_server.replies = [Reply(f"甲答：{question}"), Reply(f"乙答：{question}")]
        ask(arena, question)
        wait_for_votes(arena)
        assert arena.locator(".cell .text").all_inner_texts() == [f"甲答：{question}", f"乙答：{question}"]
        assert "baihua" not in arena.locator("#battle-view").inner_text()
        arena.click(click)
        arena.locator(".revealed").first.wait_for()
        assert arena.locator(".cell .name").all_inner_texts() == ["baihua-1.7b", "baihua-0.6b"]
        arena.get_by_role("button", name="下一场").click()
        arena.locator("#hello").wait_for()
    assert [vote["vote"] for vote in arena_server.votes] == ["a", "tie", "both_bad"]
    assert arena.locator("#num-votes").inner_text() == "已有 3 票"
    arena.click("#tab-table")
    arena.locator("tbody tr").first.wait_for()
    rows = [row.split("\t") for row in arena.locator("tbody tr").all_inner_texts()]
    assert rows[0][1] == "baihua-1.7b"
    assert "960 到 1,120" in rows[0][2]
    assert rows[0][3:] == ["3", "2", "0", "1", "0"]
    assert "尚未确定" in rows[1][2]
    assert rows[2][1:] == ["2", "0", "1", "0"]
    assert arena.get_by_text("票数少时区间偏窄").is_visible()
    widths = arena.locator(".span").evaluate_all("(all) => all.map((one) => one.getBoundingClientRect().width)")
    assert len(widths) == 1
    assert widths[0] > 50


def test_votes_wait_for_both_and_keys_vote(arena: "Page", arena_server: PageServer) -> None:
    arena_server.replies = [Reply("快"), Reply("慢慢地回答这个问题", num_chars_per_piece=1, seconds_per_piece=0.1)]
    ask(arena, "比一比")
    arena.get_by_text("慢", exact=True).wait_for()
    assert arena.locator(".vote[disabled]").count() == 4
    arena.locator("#scroll").focus()
    arena.keyboard.press("2")
    assert arena_server.votes == []
    wait_for_votes(arena)
    arena.fill("#question", "")
    arena.press("#question", "2")  # typed into the box: no vote
    assert arena_server.votes == []
    arena.locator("#scroll").focus()
    arena.keyboard.press("b")
    arena.locator(".revealed").first.wait_for()
    assert arena_server.votes == [{"vote": "b"}]
    arena.keyboard.press("Enter")  # the focus waits on the way to the next battle
    arena.locator("#hello").wait_for()


def test_more_turns_belong_to_the_same_battle(arena: "Page", arena_server: PageServer) -> None:
    arena_server.replies = [Reply("一"), Reply("二"), Reply("三"), Reply("四")]
    for question in ("先问", "再问"):
        ask(arena, question)
        wait_for_votes(arena)
    assert arena.locator(".cell .text").all_inner_texts() == ["一", "二", "三", "四"]
    assert arena_server.asked == [{"question_id": None}, {"text": "先问"}, {"text": "再问"}]


def test_stopping_both_leaves_what_they_said_to_vote_on(arena: "Page", arena_server: PageServer) -> None:
    slow = "很长很长的回答" * 40
    arena_server.replies = [Reply(slow, seconds_per_piece=0.1), Reply(slow, seconds_per_piece=0.1)]
    ask(arena, "说长一点")
    arena.wait_for_function("() => [...document.querySelectorAll('.cell .text')].every((one) => one.textContent)")
    arena.keyboard.press("Escape")
    wait_for_votes(arena)
    assert arena.get_by_text("已停止").count() == 2


def test_an_answerer_that_fails_is_told_and_ends_the_battle(arena: "Page", arena_server: PageServer) -> None:
    arena_server.replies = [Reply("好"), Reply("", error="out of memory")]
    ask(arena, "你好")
    arena.get_by_text("B 回答失败：out of memory").wait_for()
    assert arena.locator(".vote").count() == 0
    arena.get_by_role("button", name="重新开始一场").click()
    assert arena.locator("#hello").is_visible()


def test_a_battle_that_the_server_forgot_can_be_left(arena: "Page", arena_server: PageServer) -> None:
    arena_server.vote_problem = HttpError(404, "no such battle")
    ask(arena, "你好")
    wait_for_votes(arena)
    arena.click(".vote-a")
    arena.locator("#notice").get_by_text("no such battle").wait_for()
    arena.locator("#notice").get_by_role("button", name="重新开始一场").click()
    arena.locator("#hello").wait_for()


def test_a_set_of_questions_is_walked_through(context: "BrowserContext", arena_server: PageServer) -> None:
    arena_server.questions = [
        {"id": "q1", "category": "写作", "text": "写一句诗"},
        {"id": "q2", "category": "数学", "text": "一加一"},
    ]
    page = context.new_page()
    page.goto(arena_server.address)
    for place, text in [("第 1 题，共 2 题", "写一句诗"), ("第 2 题，共 2 题", "一加一")]:
        page.get_by_text(place).wait_for()
        assert page.locator(".task-text").inner_text() == text
        page.get_by_role("button", name="问这一题").click()
        wait_for_votes(page)
        page.click(".vote-b")
        page.locator(".next").click()
    page.get_by_text("2 道题都投完了").wait_for()
    assert [one.get("question_id") for one in arena_server.asked if "question_id" in one] == ["q1", "q2"]
