"""Texts and prompts that damage is measured on, as tokens."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
from baihua.chat.render import Template, encode, render
from baihua.chat.types import Message, TextTokenizer
from baihua.chat.zh import is_mainly_chinese
from baihua.compress.damage.distance import Text
from baihua.core.errors import InputError
from baihua.data.rows import DOCUMENT, Row, find_table, holds_documents, read_rows, read_values
from baihua.model.examples import Encoder, encode_document

LANGUAGES = ("zh", "en")


@dataclass(frozen=True, slots=True)
class Prompt:
    """The messages of a conversation that precede its first answer."""

    row_id: str
    category: str
    messages: tuple[Message, ...]

    @property
    def text(self) -> str:
        """The user's part, for people."""
        return "\n".join(message.text for message in self.messages if message.role == "user")


class TextReader:
    """Turns data into texts and prompts of at most `max_length` tokens; documents need no template."""

    def __init__(self, tokenizer: TextTokenizer, template: Template | None, *, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._encoder = Encoder(tokenizer, template) if template else None
        self._max_length = max_length

    def read(self, data: Path, *, num_texts: int) -> list[Text]:
        """At most `num_texts` texts that are mainly Chinese, and as many others, Chinese first.

        The smallest ids come first: they are hashes of the content, so the same rows are drawn every time.
        """
        texts: list[Text] = []
        left = dict.fromkeys(LANGUAGES, num_texts)
        for row in _read_sorted(data):
            language = "zh" if is_mainly_chinese("\n".join(message.text for message in row.messages)) else "en"
            if not left[language]:
                continue
            is_document = row.messages[0].role == DOCUMENT
            text = self._document(row, language) if is_document else self._conversation(row, language)
            if text.num_positions > 0:
                texts.append(text)
                left[language] -= 1
        if not texts:
            fix = "give conversations or documents in Chinese, in English or in both"
            raise InputError("no text has two tokens, so nothing can be measured", where=str(data), fix=fix)
        return sorted(texts, key=lambda text: LANGUAGES.index(text.language))

    def prompts(self, data: Path, *, num_prompts: int) -> list[Prompt]:
        """Prompts of at most `num_prompts` conversations, smallest ids first; too long ones are skipped."""
        prompts = (
            Prompt(row.id, _category(row), tuple(itertools.takewhile(lambda m: m.role != "assistant", row.messages)))
            for row in sorted(read_rows(data), key=lambda row: row.id)
        )
        return list(itertools.islice(filter(self._fits, prompts), num_prompts))

    def answered(self, prompt: Prompt, reply: str) -> Text:
        """A prompt with a reply, which counts only in its category."""
        # Some templates trim their texts, and the renderer refuses a template that changes a text.
        answer = Message("assistant", reply.strip())
        row = Row(prompt.row_id, (*prompt.messages, answer), meta={"category": prompt.category})
        return self._conversation(row, language="")

    def _fits(self, prompt: Prompt) -> bool:
        assert self._encoder, "prompts need a template"
        spans = render(prompt.messages, self._encoder.template, for_answer=True)
        return len(encode(spans, self._tokenizer).ids) <= self._max_length

    def _conversation(self, row: Row, language: str) -> Text:
        """A conversation as the template renders it; its answers count for bits and characters."""
        assert self._encoder, "conversations need a template"
        example = self._encoder.cut(self._encoder.encode(row.id, row.messages), self._max_length)
        return Text(example, language, _category(row))

    def _document(self, row: Row, language: str) -> Text:
        return Text(encode_document(self._tokenizer, row.id, row.messages[0].text, self._max_length), language)


@dataclass(frozen=True, slots=True)
class Material:
    """The texts that are scored and the prompts that are answered."""

    texts: Sequence[Text]
    prompts: Sequence[Prompt]
    reader: TextReader


def read_material(
    reference: Path, data: Path, questions: Path | None, *, num_texts: int, num_replies: int, max_length: int
) -> Material:
    """Texts from `data` and prompts from `questions`, else from `data`, with the tokenizer of a GGUF file."""
    asked = questions or (data if has_conversations(data) else None)
    tokenizer = GgufTokenizer(reference)
    reader = TextReader(tokenizer, tokenizer.template() if asked else None, max_length=max_length)
    prompts = reader.prompts(asked, num_prompts=num_replies) if asked and num_replies else []
    return Material(reader.read(data, num_texts=num_texts), prompts, reader)


def has_conversations(data: Path) -> bool:
    """Whether data is conversations, not documents."""
    return not holds_documents(find_table(data))


def _read_sorted(data: Path) -> list[Row]:
    """Every row with text, smallest ids first; a document is one message of the role `document`."""
    if has_conversations(data):
        return sorted(read_rows(data), key=lambda row: row.id)
    records = sorted(read_values(find_table(data)), key=lambda record: record["id"])
    return [Row(record["id"], (Message(DOCUMENT, record["text"]),)) for record in records if record["text"].strip()]


def _category(row: Row) -> str:
    return str(row.meta.get("category") or "")
