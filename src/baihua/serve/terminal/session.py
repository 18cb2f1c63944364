"""A conversation in the terminal: its turns, which of them are sent to the model, and the next answer.

If the context is full, the oldest turns are left out.
"""

import time
from bisect import bisect_left
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from baihua.chat.types import ChatModel, LocalChat, Message, Piece, Sampling, Usage
from baihua.core.errors import BaihuaError, InputError, TooLongError
from baihua.serve.terminal.screen import PlainScreen, TerminalScreen

# When turns must be left out, the rest is reduced to this share of the room. Leaving out more than necessary keeps the
# prompt's beginning the same for the next few turns, so that the engine reads only what is new.
KEPT_SHARE = 0.75


class Session:
    """Alternating turns of user and assistant after a system message; the last question may be unanswered."""

    def __init__(self, *, system: str | None = None, sampling: Sampling) -> None:
        self.system = system
        self.sampling = sampling
        self.turns: list[Message] = []
        self.usage: Usage | None = None
        """Tokens of the last answer, if the model reported them."""
        self.num_left_out = 0
        """The number of oldest questions that, with their answers, are kept but not sent."""
        self.is_editing = False
        """Whether the next question replaces the last one and its answer."""
        self._replaced: Message | None = None

    @property
    def question(self) -> str | None:
        """The last question."""
        starts = self._starts()
        return self.turns[starts[-1]].text if starts else None

    @property
    def most_left_out(self) -> int:
        """How many questions can be left out: all but the last."""
        return max(0, len(self._starts()) - 1)

    def sent(self, num_left_out: int | None = None) -> list[Message]:
        """The messages to send: all but this many of the oldest questions and their answers."""
        number = min(self.num_left_out if num_left_out is None else num_left_out, self.most_left_out)
        return [*self._head(), *self.turns[self._starts()[number] if number else 0 :]]

    def ask(self, text: str) -> None:
        """Add a question; it replaces one that has no answer or is being edited."""
        starts = self._starts()
        if starts and (self.is_editing or self.turns[-1].role == "user"):
            del self.turns[starts[-1] :]
        self.is_editing = False
        self.turns.append(Message("user", _clean(text)))

    def answer(self, text: str) -> None:
        """Add an answer; an empty one leaves the question open."""
        assert self.turns and self.turns[-1].role == "user", "an answer needs a question"
        if text.strip():
            self.turns.append(Message("assistant", _clean(text)))

    def reopen(self) -> bool:
        """Set the last answer aside, so that its question can be asked again; false without a question."""
        if self.question is None:
            return False
        if self.turns[-1].role == "assistant":
            self._replaced = self.turns.pop()
        return True

    def settle(self) -> None:
        """Restore the answer that was set aside if there is no new one."""
        if self._replaced and self.turns and self.turns[-1].role == "user":
            self.turns.append(self._replaced)
        self._replaced = None

    def set_system(self, text: str | None) -> None:
        """Change the system message; the next answer checks again what fits the context."""
        self.system = text
        self.num_left_out = 0

    def clear(self) -> None:
        """Forget the turns."""
        self.turns.clear()
        self.usage, self.num_left_out, self._replaced = None, 0, None

    def replace(self, messages: Sequence[Message]) -> None:
        """Continue another conversation; a system message must come first."""
        assert messages, "a conversation has messages"
        head, turns = (messages[0], messages[1:]) if messages[0].role == "system" else (None, messages)
        if any(message.role == "system" for message in turns):
            raise InputError("the conversation has a system message after its beginning", fix="move it to the front")
        self.clear()
        self.system = head.text if head else None
        self.turns = [Message(m.role, _clean(m.content), m.input) for m in turns]

    def answered(self) -> list[Message]:
        """The conversation without an unanswered question."""
        is_open = bool(self.turns) and self.turns[-1].role == "user"
        turns = self.turns[:-1] if is_open else self.turns
        return [*self._head(), *turns] if turns else []

    def _starts(self) -> list[int]:
        return [place for place, turn in enumerate(self.turns) if turn.role == "user"]

    def _head(self) -> list[Message]:
        return [Message("system", self.system)] if self.system else []


def _clean(text: str) -> str:
    """A stripped text that can be encoded."""
    # Many templates strip texts, and the renderer refuses templates that change the texts they are given. A lone
    # surrogate, from a paste that is not UTF-8, cannot be tokenized.
    return text.encode("utf-8", "replace").decode("utf-8").strip()


@dataclass(frozen=True, slots=True)
class Chat:
    """A session, the model that answers, the screen that shows it, and the folder for saved conversations."""

    session: Session
    model: ChatModel
    screen: PlainScreen | TerminalScreen
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
        _answer_what_fits(chat)
    except BaihuaError as error:
        if isinstance(error, TooLongError):
            session.num_left_out = before
        chat.screen.note(str(error))
    finally:
        session.settle()


def _answer_what_fits(chat: Chat) -> None:
    """Answer, leaving out turns as long as that is too long; raise TooLongError if there are none left."""
    while True:
        try:
            return _stream_answer(chat)
        except TooLongError:
            if not leave_out_more(chat.session):
                raise
            chat.screen.note(f"too long for the model; {_left_out(chat.session)} are not sent")


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
    session.usage = usage = last.usage
    screen.note(_describe(text, last, seconds=time.perf_counter() - started))
    is_full = last.finish_reason == "length" and usage and usage.num_answer_tokens < session.sampling.max_tokens
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
