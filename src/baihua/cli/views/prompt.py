"""The exact prompt that a model reads for a conversation, and its number of tokens."""

from pathlib import Path

from rich.console import Console

from baihua.backends.llama_cpp.tokenizer import GgufTokenizer
from baihua.chat.render import encode, render
from baihua.chat.template import OWN, open_template
from baihua.cli.options import print_json
from baihua.cli.views.rows import print_spans
from baihua.core.files import read_jsonl
from baihua.data.formats.messages import read_messages


def print_prompts(model: Path, file: Path, *, as_json: bool) -> None:
    """For each conversation of a JSON Lines file, what the model reads before its answer; no weights are loaded."""
    if model.suffix == ".gguf":
        tokenizer = GgufTokenizer(model)
        template = tokenizer.template()
    else:
        tokenizer, template = open_template(OWN, model)
    spans_of = [
        render(read_messages(row, where=f"{file}:{number}"), template, for_answer=True)
        for number, row in read_jsonl(file)
    ]
    found = [(spans, encode(spans, tokenizer).ids) for spans in spans_of]
    if as_json:
        items = [{"prompt": "".join(s.text for s in spans), "num_tokens": len(ids), "ids": ids} for spans, ids in found]
        print_json({"template": template.name, "prompts": items})
        return
    console = Console(highlight=False, markup=False, emoji=False)
    for spans, ids in found:
        console.print(f"{len(ids):,} tokens", style="bold")
        print_spans(console, spans, is_training=False)
