"""Small Chinese conversations for tests of training and measuring."""

import random
from collections.abc import Iterable
from pathlib import Path

from baihua.chat.render import Template
from baihua.chat.template import TEMPLATES, open_template
from baihua.chat.types import Message
from baihua.core import kinds
from baihua.data.rows import Row
from baihua.model.examples import Encoder, Example

QUESTIONS = ("你好", "今天天气怎么样？", "一加一等于几？", "What is your name?", "请把这句话改通顺：他很高兴。")
ANSWERS = ("你好！", "今天天气很好，我们去公园走走吧。", "一加一等于二。", "My name is 白话.", "他的心情很高兴😀。")


class Letters:
    """A tokenizer whose plain tokens are single characters, with whatever control tokens a template expects."""

    bos_id = None

    def __init__(self, controls: tuple[str, ...]) -> None:
        self.controls = {name: 0x110000 + number for number, name in enumerate(controls)}

    def encode(self, text: str) -> list[int]:
        return list(map(ord, text))

    def token_bytes(self, token_id: int) -> bytes:
        return chr(token_id).encode() if token_id < 0x110000 else b""

    def text(self, token_ids: Iterable[int]) -> str:
        """What tokens stand for, control tokens by their names."""
        names = {token_id: name for name, token_id in self.controls.items()}
        return "".join(names[token_id] if token_id in names else chr(token_id) for token_id in token_ids)


def make_letters(template: str) -> tuple[Letters, Template]:
    """One of our templates with a tokenizer made for it."""
    kind = kinds.find(TEMPLATES, template)
    controls = kind.CONTROLS
    return Letters(controls), Template(template, kind.JINJA, frozenset(controls), controls[0], controls[-1])


def make_rows(num_rows: int, *, num_turns: int = 1, seed: int = 0) -> list[Row]:
    """Conversations of different lengths, each with its own id and line."""
    rng = random.Random(seed)
    rows = []
    for number in range(num_rows):
        messages = []
        for _ in range(num_turns):
            messages.append(Message("user", rng.choice(QUESTIONS) * rng.randint(1, 3)))
            messages.append(Message("assistant", rng.choice(ANSWERS) * rng.randint(1, 3)))
        rows.append(Row(f"row-{number}", tuple(messages), source="test", file="talks.jsonl", line=number + 1))
    return rows


def make_encoder(folder: Path, template: str = "model") -> Encoder:
    """The encoder of a model folder."""
    return Encoder(*open_template(template, folder))


def encode_rows(folder: Path, rows: list[Row]) -> list[Example]:
    """Whole rows as examples."""
    encoder = make_encoder(folder)
    return [encoder.encode(row.id, row.messages) for row in rows]
