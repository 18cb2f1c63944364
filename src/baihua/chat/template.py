"""The tokenizer and chat template of a model folder, by the template's name in a recipe."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from baihua.chat.render import Template, render
from baihua.chat.tokenizer import FolderTokenizer, load_template
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
"""A config field: `model` for the template that the model brings, or the name of one of ours."""


def open_template(name: str, folder: Path) -> tuple[FolderTokenizer, Template]:
    """The tokenizer of a model folder with the template of that name."""
    tokenizer = FolderTokenizer(folder)
    jinja = None if name == OWN else kinds.find(TEMPLATES, name).JINJA
    return tokenizer, load_template(name, folder, tokenizer, jinja)


def end_of_turn(template: Template) -> str:
    """The control token that ends an answer; a template without one is refused by the renderer."""
    spans = render([Message("user", "问"), Message("assistant", "答")], template)
    ends = [span.text for span in spans if span.is_trained and span.is_control]
    if not ends:
        raise InputError(
            f"template {template.name!r} leaves out the assistant's answers", fix="name another `template`"
        )
    return ends[0]
