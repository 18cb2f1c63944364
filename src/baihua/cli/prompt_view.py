"""The prompt that a model reads for a conversation, exactly, and how many tokens it has."""

import json
from pathlib import Path

from baihua.chat.render import Template, encode, render
from baihua.chat.types import TextTokenizer
from baihua.core.files import read_jsonl
from baihua.data.formats.messages import read_messages
from baihua.train.examples.preview import style_of


def print_prompt(model: Path, file: Path, *, as_json: bool) -> None:
    """For each conversation of a file (JSON lines with `messages`): what the model reads before its answer."""
    tokenizer, template = _open(model)
    found = []
    for number, row in read_jsonl(file):
        messages = read_messages(row, where=f"{file}:{number}")
        spans = render(messages, template, for_answer=True)
        found.append((spans, encode(spans, tokenizer).ids))
    if as_json:
        items = [
            {"prompt": "".join(span.text for span in spans), "num_tokens": len(ids), "ids": ids} for spans, ids in found
        ]
        print(json.dumps({"template": template.name, "prompts": items}, ensure_ascii=False))
        return
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    for spans, ids in found:
        console.print(f"{len(ids):,} tokens", style="bold")
        for span in spans:
            style = style_of(is_trained=False, is_control=span.is_control)
            # Soft wrapping: a line break on the screen must be one of the prompt.
            console.print(span.text, style=style, soft_wrap=True, end="")
        console.print()


def _open(model: Path) -> tuple[TextTokenizer, Template]:
    """Tokenizer and template of a .gguf file or a model folder, without its weights."""
    if model.suffix == ".gguf":
        from baihua.backends.llama_cpp.tokenizer import GgufTokenizer

        tokenizer = GgufTokenizer(model)
        return tokenizer, tokenizer.template()
    from baihua.chat.template import OWN, open_template

    return open_template(OWN, model)
