"""What the browser tests read off the chat page."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

DONE = ".answer:not(.running)"


def texts(page: "Page", selector: str) -> list[str]:
    """What each of the elements shows, once an answer is there."""
    page.locator(DONE).last.wait_for()
    return [one.strip() for one in page.locator(selector).all_inner_texts()]


def wait_for(page: "Page", text: str) -> None:
    """Wait for a text in the conversation; screen readers are told it elsewhere too."""
    page.locator("#thread").get_by_text(text).wait_for()
