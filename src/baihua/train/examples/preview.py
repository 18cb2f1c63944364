"""Examples in colour before training starts: the cheapest check of template and targets."""

import itertools
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from baihua.chat.tokenizer import FolderTokenizer
from baihua.model.examples import Example

PROMPT, TRAINED, CONTROL, TRAINED_CONTROL = "dim", "green", "magenta", "bold black on green"


def style_of(*, is_trained: bool, is_control: bool) -> str:
    """The style of a piece of a rendered conversation: trained green, prompt dim, control tokens highlighted."""
    if is_control:
        return TRAINED_CONTROL if is_trained else CONTROL
    return TRAINED if is_trained else PROMPT


def colour(example: Example, tokenizer: FolderTokenizer) -> Text:
    """An example as styled text, from its token ids and targets."""
    name_of = {token_id: name for name, token_id in tokenizer.controls.items()}
    tokens = zip(example.ids_T.tolist(), example.is_target_T.tolist(), strict=True)
    text = Text()
    # Runs are decoded whole: one character may be several tokens.
    for (is_control, is_target), run in itertools.groupby(tokens, key=lambda token: (token[0] in name_of, token[1])):
        ids = [token_id for token_id, _ in run]
        shown = "".join(name_of[token_id] for token_id in ids) if is_control else tokenizer.decode(ids)
        text.append(shown, style_of(is_trained=is_target, is_control=is_control))
    return text


def show_examples(
    examples: Sequence[Example], tokenizer: FolderTokenizer, *, num_shown: int = 3, console: Console | None = None
) -> None:
    """Print the first examples to stderr, with the number of their trained tokens."""
    console = console or Console(stderr=True)
    for number, example in enumerate(examples[:num_shown], start=1):
        share = f"{int(example.is_target_T.sum())} of {len(example.ids_T)} tokens trained (green)"
        console.rule(Text(f"example {number}: row {example.row_id}, {share}"))
        console.print(colour(example, tokenizer))
