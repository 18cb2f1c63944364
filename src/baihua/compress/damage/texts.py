"""Which texts and questions damage is measured on, and how they become tokens."""

# ruff: noqa: N806  (names of tensors end with their shape)

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from baihua.chat.render import Template, encode, render
from baihua.chat.types import Message, TextTokenizer
from baihua.chat.zh import is_mainly_chinese
from baihua.compress.damage.distance import Text
from baihua.core.errors import InputError
from baihua.data.rows import Row, find_table, read_rows, read_values
from baihua.model.examples import Encoder, Example

LANGUAGES = ("zh", "en")


@dataclass(frozen=True, slots=True)
class Question:
    """What a model is asked: everything before the first answer."""

    row_id: str
    category: str
    messages: tuple[Message, ...]

    @property
    def text(self) -> str:
        """The question as a person reads it."""
        return "\n".join(message.text for message in self.messages if message.role == "user")


class TextReader:
    """Turns data into texts and questions of at most `max_length` tokens; documents need no template."""

    def __init__(self, tokenizer: TextTokenizer, template: Template | None, *, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._encoder = Encoder(tokenizer, template) if template else None
        self._max_length = max_length

    def read(self, data: Path, *, num_texts: int) -> list[Text]:
        """At most `num_texts` of each language: mainly Chinese, and all else.

        The smallest ids come first; being hashes of the content, they are a draw that repeats.
        """
        texts: list[Text] = []
        left = dict.fromkeys(LANGUAGES, num_texts)
        for row_id, category, messages, document in _read(data):
            language = "zh" if is_mainly_chinese(document or _text(messages)) else "en"
            if not left[language]:
                continue
            text = self._document(row_id, document, language) if document else None
            text = text or self.conversation(row_id, messages, language=language, category=category)
            if len(text.ids) > 1:
                texts.append(text)
                left[language] -= 1
        if not texts:
            raise InputError(
                "no text has a second token, so there is nothing to measure",
                where=str(data),
                fix="give conversations or documents in Chinese, in English or in both",
            )
        return sorted(texts, key=lambda text: LANGUAGES.index(text.language))

    def conversation(self, row_id: str, messages: Sequence[Message], *, language: str = "", category: str = "") -> Text:
        """A conversation as the template renders it; its answers count for bits and characters."""
        assert self._encoder, "whoever has conversations gives a template"
        example: Example = self._encoder.cut(self._encoder.encode(row_id, messages), self._max_length)
        ids = example.ids_T.tolist()
        return Text(row_id, language, category, ids, example.is_target_T, example.target_text.num_chars)

    def questions(self, data: Path, *, num_questions: int) -> list[Question]:
        """The first question of at most so many conversations, smallest ids first; one that is too long is left out."""
        rows = sorted(read_rows(data), key=lambda row: row.id)
        questions = (Question(row.id, _category(row), tuple(_until_answer(row.messages))) for row in rows)
        return list(itertools.islice(filter(self._fits, questions), num_questions))

    def answered(self, question: Question, reply: str) -> Text:
        """A question with a reply, for the figures of its category alone."""
        messages = (*question.messages, Message("assistant", reply))
        return self.conversation(question.row_id, messages, category=question.category)

    def _fits(self, question: Question) -> bool:
        assert self._encoder, "whoever has questions gives a template"
        spans = render(question.messages, self._encoder.template, for_answer=True)
        return len(encode(spans, self._tokenizer).ids) <= self._max_length

    def _document(self, row_id: str, document: str, language: str) -> Text:
        first = [] if self._tokenizer.bos_id is None else [self._tokenizer.bos_id]
        # No token stands for less than a byte, so what is cut off here would not fit.
        ids = (first + self._tokenizer.encode(document[: self._max_length * 16]))[: self._max_length]
        is_counted_T = np.ones(len(ids), dtype=bool)
        data = b"".join(map(self._tokenizer.token_bytes, ids[1:]))
        # Bytes 10xxxxxx continue a character; a character counts where it starts.
        return Text(row_id, language, "", ids, is_counted_T, sum(byte & 0xC0 != 0x80 for byte in data))


def has_conversations(data: Path) -> bool:
    """Whether data is conversations, not documents."""
    import pyarrow.parquet as pq

    return "text" not in pq.read_schema(find_table(data)).names


def _until_answer(messages: Iterable[Message]) -> Iterable[Message]:
    return itertools.takewhile(lambda message: message.role != "assistant", messages)


def _read(data: Path) -> list[tuple[str, str, tuple[Message, ...], str]]:
    """Id, category, messages and text of every row, smallest ids first; a document has no messages."""
    if has_conversations(data):
        rows = [(row.id, _category(row), row.messages, "") for row in read_rows(data)]
    else:
        records = read_values(find_table(data))
        rows = [(record["id"], "", (), record["text"]) for record in records if record["text"].strip()]
    return sorted(rows, key=lambda row: row[0])


def _category(row: Row) -> str:
    return str(row.meta.get("category") or "")


def _text(messages: Sequence[Message]) -> str:
    return "\n".join(message.text for message in messages)
