"""Chat templates by their names in a recipe, with the tokenizer of the model folder they are used with."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from baihua.chat.render import Template, encode, render
from baihua.chat.tokenizer import FolderTokenizer
from baihua.chat.types import Message
from baihua.core import kinds
from baihua.core.errors import InputError

TEMPLATES = "baihua.chat.templates"
OWN = "model"


def _check(name: str) -> str:
    known = [OWN, *kinds.names(TEMPLATES)]
    if name not in known:
        raise ValueError(kinds.unknown(name, known, what="template"))
    return name


TemplateName = Annotated[str, AfterValidator(_check)]
"""A config field: `model` for the template in the model folder, or the name of one of ours."""


def open_template(name: str, folder: Path) -> tuple[FolderTokenizer, Template]:
    """The tokenizer of a model folder, and the template of this name for it."""
    tokenizer = FolderTokenizer(folder)
    return tokenizer, load_template(name, folder, tokenizer)


def load_template(name: str, folder: Path, tokenizer: FolderTokenizer) -> Template:
    """The template of this name for a model folder whose tokenizer is open already."""
    jinja = _own_jinja(folder) if name == OWN else kinds.find(TEMPLATES, name).JINJA
    return Template(name, jinja, frozenset(tokenizer.controls), tokenizer.bos_token, tokenizer.eos_token)


def end_of_turn(template: Template) -> str:
    """The control token that ends an answer; the renderer refuses a template without one."""
    spans = render([Message("user", "问"), Message("assistant", "答")], template)
    ends = [span.text for span in spans if span.is_trained and span.is_control]
    if not ends:
        what = f"template {template.name!r} leaves out the assistant's answers"
        raise InputError(what, fix="name another `template`")
    return ends[0]


def token_counter(folder: Path, *, template: str) -> Callable[[Sequence[Message]], int]:
    """A function that counts a conversation's tokens, template included, or those of a document's bare text."""
    tokenizer, opened = open_template(template, folder)

    def count(messages: Sequence[Message]) -> int:
        if messages[0].role not in ("system", "user"):
            return len(tokenizer.encode(messages[0].content))
        return len(encode(render(messages, opened), tokenizer).ids)

    return count


def _own_jinja(folder: Path) -> str:
    file = folder / "chat_template.jinja"
    if not file.is_file():
        fix = "name a template in the recipe: `template: chatml` or `template: alpaca`"
        raise InputError("the model folder has no chat_template.jinja", where=str(folder), fix=fix)
    return file.read_text(encoding="utf-8")
