"""Generating and showing the next answer of a session, with the oldest turns left out if the context is full."""

import time
from bisect import bisect_left
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from baihua.chat.types import ChatModel, LocalChat, Piece
from baihua.core.errors import BaihuaError, TooLongError
from baihua.serve.terminal.screen import Screen
from baihua.serve.terminal.session import Session

# When turns must be left out, the rest is reduced to this share of the room. Leaving out more than necessary keeps the
# prompt's beginning the same for the next few turns, so that the engine reads only what is new.
KEPT_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class Chat:
    """A session, the model that answers, the screen that shows it, and the folder for saved conversations."""

    session: Session
    model: ChatModel
    screen: Screen
    folder: Path


def answer(chat: Chat) -> None:
    """Answer the open question; if the conversation is too long, leave out its oldest turns and show a note.

    An error of the model becomes a note. Text received before an error or Ctrl-C stays in the session; an answer that
    was set aside for this one is restored if this one has no text.
    """
    session, model = chat.session, chat.model
    before = session.num_left_out
    try:
        if isinstance(model, LocalChat) and fit_context(session, model) and session.num_left_out > before:
            context = f"the context ({model.num_ctx:,} tokens)"
            chat.screen.note(f"{_left_out(session)} no longer fit {context} and are not sent")
        while not _try_to_answer(chat):
            pass
    except BaihuaError as error:
        if isinstance(error, TooLongError):
            session.num_left_out = before
        chat.screen.note(str(error))
    finally:
        session.settle()


def _try_to_answer(chat: Chat) -> bool:
    """Answer, or leave out more turns and return false; raise TooLongError if there are none left."""
    try:
        _stream_answer(chat)
    except TooLongError:
        if not leave_out_more(chat.session):
            raise
        chat.screen.note(f"too long for the model; {_left_out(chat.session)} are not sent")
        return False
    return True


def _stream_answer(chat: Chat) -> None:
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
    is_cut = last.finish_reason == "length"
    is_full = is_cut and last.usage is not None and last.usage.num_answer_tokens < session.sampling.max_tokens
    if is_full and leave_out_more(session):
        screen.note(f"the context is full; {_left_out(session)} are not sent from now on; /retry has more room")


def _left_out(session: Session) -> str:
    number = session.num_left_out
    return "the oldest question and its answer" if number == 1 else f"the oldest {number:,} questions and their answers"


def _describe(text: str, last: Piece, *, seconds: float) -> str:
    """The status line: length and speed of an answer; the time includes reading the prompt."""
    if not text:
        return "the answer is empty; /retry asks again"
    figures = [f"{seconds:.1f} s"]
    if last.usage:
        num_tokens = last.usage.num_answer_tokens
        figures = [f"{num_tokens:,} tokens", *figures, f"{num_tokens / seconds:,.1f} tokens/s"]
    figures.append(f"{len(text) / seconds:,.1f} characters/s")
    figures += ["cut at the length limit"] if last.finish_reason == "length" else []
    return ", ".join(figures)


def fit_context(session: Session, model: LocalChat) -> bool:
    """Leave out the oldest turns until the rest and an answer fit; false if the last question alone is too long.

    The prompt is counted once if everything fits, otherwise about log2(turns) times.
    """
    # An answer limit above half the context would leave too little room for the conversation.
    room = model.num_ctx - min(session.sampling.max_tokens, model.num_ctx // 2)
    if model.count_tokens(session.sent()) <= room:
        return True
    numbers = range(session.num_left_out + 1, session.most_left_out + 1)
    if not numbers:
        return model.count_tokens(session.sent()) < model.num_ctx
    least = model.count_tokens(session.sent(numbers[-1]))
    if least > room:
        session.num_left_out = numbers[-1]
        return least < model.num_ctx
    most = least + KEPT_SHARE * (room - least)
    place = bisect_left(numbers, -most, key=lambda number: -model.count_tokens(session.sent(number)))
    session.num_left_out = numbers[place]
    return True


def leave_out_more(session: Session) -> bool:
    """Leave out a quarter of the rest, for a model that only reports "too long"; false if nothing is left."""
    rest = session.most_left_out - session.num_left_out
    session.num_left_out += max(1, rest // 4) if rest > 0 else 0
    return rest > 0
