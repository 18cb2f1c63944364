"""A scripted model: answers from a file, to try recipes and pages without a model.

Each line is {"ask": "...", "answer": "..."}. `ask` must equal the last user message; a row whose `ask` is null answers
everything else. Without a tokenizer, usage and `max_tokens` count characters.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from baihua.chat.stream import TextStream
from baihua.chat.types import Message, Piece, Sampling, Usage
from baihua.core.errors import InputError
from baihua.core.files import read_jsonl

NUM_CHARS_PER_PIECE = 4


class ReplayChat:
    """A ChatModel that looks up its answers."""

    def __init__(self, answers: Mapping[str | None, str], *, name: str) -> None:
        self.name = name
        self._answers = dict(answers)

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Piece]:
        """Yield the scripted answer a few characters at a time; usage counts characters as tokens."""
        answer = self._find(messages)
        cut = answer[: sampling.max_tokens]
        stream = TextStream(sampling.stop)
        text = stream.push(cut.encode()) + stream.finish()
        for start in range(0, len(text), NUM_CHARS_PER_PIECE):
            yield Piece(text[start : start + NUM_CHARS_PER_PIECE])
        finish_reason = "stop" if stream.is_stopped or cut == answer else "length"
        yield Piece("", finish_reason, Usage(sum(len(message.text) for message in messages), len(text)))

    def close(self) -> None:
        """Nothing to free."""

    def _find(self, messages: Sequence[Message]) -> str:
        ask = next((message.text for message in reversed(messages) if message.role == "user"), None)
        for known in (ask, None):
            if known in self._answers:
                return self._answers[known]
        fix = 'add a row with this `ask`, or one with "ask": null that answers everything else'
        raise InputError(f"the script has no answer for {ask!r}", where=self.name, fix=fix)


def open_chat(file: Path) -> ReplayChat:
    """Open a script of {"ask", "answer"} rows; an InputError names the line of a wrong one."""
    answers: dict[str | None, str] = {}
    for number, row in read_jsonl(file):
        ask, answer, where = row.get("ask"), row.get("answer"), f"{file}:{number}"
        if "ask" not in row or not (ask is None or isinstance(ask, str)) or not isinstance(answer, str):
            what = f"expected `ask` (a text or null) and `answer` (a text), found {', '.join(sorted(row)) or 'nothing'}"
            raise InputError(what, where=where, fix='write the line as {"ask": "...", "answer": "..."}')
        if ask in answers:
            what = f"the script has a second row with `ask` {'null' if ask is None else repr(ask)}"
            raise InputError(what, where=where, fix="keep one row for each `ask`")
        answers[ask] = answer
    if not answers:
        raise InputError("the script has no rows", where=str(file), fix='add {"ask": null, "answer": "..."}')
    return ReplayChat(answers, name=file.stem)
