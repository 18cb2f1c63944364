"""The state of a conversation: its turns, and which of them are sent to the model."""

from collections.abc import Sequence

from baihua.chat.types import Message, Sampling, Usage
from baihua.core.errors import InputError


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
