"""Ask a model for the next turn of a session and show it as it comes."""

import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from baihua.chat.types import ChatModel, LocalChat, Piece, Sampling
from baihua.core.errors import BaihuaError, TooLongError
from baihua.serve.terminal.screen import Screen
from baihua.serve.terminal.session import Session
from baihua.serve.terminal.trimming import leave_out, leave_out_some


@dataclass(frozen=True, slots=True)
class Chat:
    """A session, the model that answers it, the screen that shows it, and the folder where it can be saved."""

    session: Session
    model: ChatModel
    screen: Screen
    folder: Path


def answer(chat: Chat) -> None:
    """Answer the open question; where the conversation is too long, send it without its oldest turns and say so.

    An error of the model becomes a note. What was shown before an error or Ctrl-C stays in the session; an answer
    that was put aside for this one comes back if this one has no text.
    """
    session = chat.session
    before = session.num_left_out
    try:
        _make_room(chat)
        while not _fits(chat):
            pass
    except TooLongError as error:
        session.num_left_out = before
        chat.screen.note(str(error))
    except BaihuaError as error:
        chat.screen.note(str(error))
    finally:
        session.settle()


def _make_room(chat: Chat) -> None:
    session, model = chat.session, chat.model
    before = session.num_left_out
    if isinstance(model, LocalChat) and leave_out(session, model) and session.num_left_out > before:
        chat.screen.note(f"{_left_out(session)} no longer fit the context ({model.num_ctx:,} tokens) and are not sent")


def _fits(chat: Chat) -> bool:
    """Answer, or leave out some more and return false; the error comes through when nothing is left to leave out."""
    try:
        _say(chat)
    except TooLongError:
        if not leave_out_some(chat.session):
            raise
        chat.screen.note(f"too long for the model; {_left_out(chat.session)} are not sent")
        return False
    return True


def _say(chat: Chat) -> None:
    session, screen = chat.session, chat.screen
    started = time.perf_counter()
    text, last = "", Piece("")
    screen.wait()
    try:
        pieces = chat.model.stream(session.sent(), session.sampling)
        try:
            for last in pieces:
                shown = last.text if text else last.text.lstrip()
                text += shown
                screen.show(shown)
        finally:
            session.answer(text)
            if isinstance(pieces, Generator):
                pieces.close()
    finally:
        screen.finish()
    session.usage = last.usage
    screen.note(_describe(text, last, seconds=time.perf_counter() - started))
    if _filled_context(last, session.sampling) and leave_out_some(session):
        screen.note(f"the context is full: {_left_out(session)} are not sent next time; /retry answers with more room")


def _left_out(session: Session) -> str:
    number = session.num_left_out
    return "the oldest question and its answer" if number == 1 else f"the oldest {number:,} questions and their answers"


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
