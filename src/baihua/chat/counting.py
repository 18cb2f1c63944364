"""How many tokens a row has for a model, its chat template included."""

from collections.abc import Callable, Sequence
from pathlib import Path

from baihua.chat.render import encode, render
from baihua.chat.template import open_template
from baihua.chat.types import Message


def token_counter(folder: Path, *, template: str) -> Callable[[Sequence[Message]], int]:
    """A function that counts the tokens of messages for the model of a folder; a document alone has no template."""
    tokenizer, opened = open_template(template, folder)

    def count(messages: Sequence[Message]) -> int:
        if messages[0].role not in ("system", "user"):
            return len(tokenizer.encode(messages[0].content))
        return len(encode(render(messages, opened), tokenizer).ids)

    return count
