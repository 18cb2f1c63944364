"""Ask a model for the next turn of a session and show it as it comes."""

import time
import unicodedata
from collections.abc import Generator
from typing import Protocol

from baihua.chat.types import ChatModel, Piece, Sampling
from baihua.core.errors import BaihuaError, TooLongError
from baihua.serve.session import Session


class Screen(Protocol):
    """Where answers and notes go."""

    def show(self, text: str) -> None:
        """Show a part of an answer at once."""
        ...

    def note(self, text: str) -> None:
        """Show lines that are not part of the conversation."""
        ...


def printable(text: str) -> str:
    """A text without control characters but newline and tab: a model must not steer the terminal."""
    return "".join(char for char in text if char in "\n\t" or unicodedata.category(char) != "Cc")


def answer(session: Session, model: ChatModel, sampling: Sampling, screen: Screen) -> None:
    """Answer the open question; where the conversation is too long, drop its oldest turns and say so.

    An error of the model becomes a note. What was shown before an error or Ctrl-C stays in the session.
    """
    turns = list(session.turns)
    try:
        while not _fits(session, model, sampling, screen):
            pass
    except TooLongError as error:
        session.turns[:] = turns
        screen.note(str(error))
    except BaihuaError as error:
        screen.note(str(error))


def _fits(session: Session, model: ChatModel, sampling: Sampling, screen: Screen) -> bool:
    """Answer, or drop the oldest turn and return false; the error comes through when nothing is left to drop."""
    try:
        _say(session, model, sampling, screen)
    except TooLongError:
        if not session.drop_oldest():
            raise
        screen.note("the conversation is too long for the model: its oldest turn is dropped")
        return False
    return True


def _say(session: Session, model: ChatModel, sampling: Sampling, screen: Screen) -> None:
    started = time.perf_counter()
    text, last = "", Piece("")
    pieces = model.stream(session.messages, sampling)
    try:
        for last in pieces:
            shown = last.text if text else last.text.lstrip()
            text += shown
            screen.show(shown)
    finally:
        if isinstance(pieces, Generator):
            pieces.close()
        session.answer(text)
        screen.show("\n" if text else "")
    screen.note(_describe(text, last, seconds=time.perf_counter() - started))
    if _filled_context(last, sampling) and session.drop_oldest():
        screen.note("the context is full: the oldest turn is dropped; /retry answers again with more room")


def _filled_context(last: Piece, sampling: Sampling) -> bool:
    return (
        last.finish_reason == "length"
        and last.usage is not None
        and (last.usage.num_answer_tokens < sampling.max_tokens)
    )


def _describe(text: str, last: Piece, *, seconds: float) -> str:
    """The status line: how much, and how fast from the question to the last character."""
    if not text:
        return "the model gave an empty answer; /retry asks again"
    figures = [f"{seconds:.1f} s"]
    if last.usage:
        num_tokens = last.usage.num_answer_tokens
        figures = [f"{num_tokens:,} tokens", *figures, f"{num_tokens / seconds:,.1f} tokens/s"]
    figures.append(f"{len(text) / seconds:,.1f} characters/s")
    figures += ["cut at the length limit"] if last.finish_reason == "length" else []
    return ", ".join(figures)
