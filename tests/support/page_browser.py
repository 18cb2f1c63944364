"""Fixtures of the browser tests: a Chromium for all of them, a fresh profile for each; nothing leaves the origin."""

import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from page_server import PageServer, serve_pages

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WAIT_MS = 10_000


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """One Chromium for the whole session: to start it takes longer than most tests."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def context(browser: "Browser") -> Iterator["BrowserContext"]:
    """A fresh profile of a Chinese reader; a request to another origin, or a script error, fails the test."""
    context = browser.new_context(locale="zh-CN", viewport={"width": 1280, "height": 800})
    context.set_default_timeout(WAIT_MS)
    outside, errors = [], []
    context.on("request", lambda request: outside.append(request.url) if not _is_local(request.url) else None)
    context.on("weberror", lambda error: errors.append(str(error.error)))
    yield context
    context.close()
    assert outside == []
    assert errors == []


@pytest.fixture
def server() -> Iterator[PageServer]:
    """A server whose first page is the chat."""
    with serve_pages("chat.html") as server:
        yield server


@pytest.fixture
def arena_server() -> Iterator[PageServer]:
    """A server whose first page is the arena."""
    with serve_pages("arena.html") as server:
        yield server


@pytest.fixture
def chat(context: "BrowserContext", server: PageServer) -> "Page":
    """The chat page, loaded, with its models known."""
    page = context.new_page()
    page.goto(server.address)
    page.locator("#model option").first.wait_for(state="attached")
    return page


@pytest.fixture(scope="module")
def modules(browser: "Browser") -> Iterator["Page"]:
    """A page whose modules a whole file of tests can call; nothing is kept between browsers."""
    with serve_pages("chat.html") as server:
        page = browser.new_page(locale="zh-CN")
        page.goto(server.address)
        page.locator("#model option").first.wait_for(state="attached")
        yield page
        page.close()


@pytest.fixture
def say(chat: "Page") -> Callable[[str], None]:
    """Type a question and send it with Enter."""

    def send(text: str) -> None:
        chat.fill("#question", text)
        chat.press("#question", "Enter")

    return send


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "blob:", "data:"))
