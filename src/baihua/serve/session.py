"""A conversation in progress: its turns, what is dropped, and how it is saved. No terminal, no model."""

import json
from datetime import datetime
from pathlib import Path

from baihua.chat.types import Message
from baihua.core.errors import InputError


class Session:
    """Turns of user and assistant in order, below one system message; the last question may be unanswered."""

    def __init__(self, *, system: str | None, save_folder: Path) -> None:
        self.system = system
        self.turns: list[Message] = []
        self._save_folder = save_folder

    @property
    def messages(self) -> list[Message]:
        """The conversation as a model is asked to continue it."""
        return [*self._head(), *self.turns]

    def ask(self, text: str) -> None:
        """Add a question; it takes the place of one that was never answered."""
        if self.turns and self.turns[-1].role == "user":
            self.turns.pop()
        self.turns.append(Message("user", text.strip()))

    def answer(self, text: str) -> None:
        """Add an answer; an empty one leaves the question open."""
        assert self.turns and self.turns[-1].role == "user", "an answer needs a question"
        # Many templates trim texts, and the renderer refuses those that change what they are given.
        if text.strip():
            self.turns.append(Message("assistant", text.strip()))

    def reopen(self) -> bool:
        """Forget the last answer, so that its question can be asked again; false without a question."""
        if self.turns and self.turns[-1].role == "assistant":
            self.turns.pop()
        return bool(self.turns)

    def drop_oldest(self) -> bool:
        """Forget the oldest question with its answer; false when only the open question is left."""
        if len(self.turns) < 3:
            return False
        del self.turns[:2]
        return True

    def save(self, name: str = "") -> Path:
        """Write the answered turns as one row in the `messages` format, into a file that did not exist before."""
        answered = self.turns if not self.turns or self.turns[-1].role == "assistant" else self.turns[:-1]
        if not answered:
            raise InputError("nothing to save: no question has been answered yet")
        row = {"messages": [{"role": m.role, "content": m.content} for m in [*self._head(), *answered]]}
        wanted = self._save_folder / Path(name or f"chat-{datetime.now():%Y%m%d-%H%M%S}.jsonl").expanduser()
        try:
            wanted.parent.mkdir(parents=True, exist_ok=True)
            return _write_new(wanted, json.dumps(row, ensure_ascii=False) + "\n")
        except OSError as error:
            raise InputError(
                f"cannot save here: {error.strerror}", where=str(wanted), fix="name another file: /save FILE"
            ) from error

    def _head(self) -> list[Message]:
        return [Message("system", self.system)] if self.system else []


def _write_new(wanted: Path, text: str) -> Path:
    """Write to `wanted`, or to the first of wanted-2, wanted-3, ... that does not exist; returns which."""
    number, file = 1, wanted
    while True:
        try:
            with file.open("x", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
            return file
        except FileExistsError:
            number += 1
            file = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
