"""What the model will learn, in colour, before it starts: the cheapest check of template and mask."""

import itertools
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from baihua.chat.tokenizer import FolderTokenizer
from baihua.model.examples import Example

PROMPT, TRAINED, CONTROL, TRAINED_CONTROL = "dim", "green", "magenta", "bold black on green"


def colour(example: Example, tokenizer: FolderTokenizer) -> Text:
    """An example as styled text: trained green, prompt dim, control tokens highlighted."""
    name_of = {token_id: name for name, token_id in tokenizer.controls.items()}
    tokens = [
        (token_id, token_id in name_of, is_target)
        for token_id, is_target in zip(example.ids_T.tolist(), example.is_target_T.tolist(), strict=True)
    ]
    text = Text()
    # Runs are decoded whole: one character may be several tokens.
    for (is_control, is_target), run in itertools.groupby(tokens, key=lambda token: token[1:]):
        ids = [token_id for token_id, _, _ in run]
        if is_control:
            text.append("".join(name_of[token_id] for token_id in ids), TRAINED_CONTROL if is_target else CONTROL)
        else:
            text.append(tokenizer.decode(ids), TRAINED if is_target else PROMPT)
    return text


def show_examples(
    examples: Sequence[Example], tokenizer: FolderTokenizer, *, num_shown: int = 3, console: Console | None = None
) -> None:
    """Show the first examples on stderr, with how much of each is trained."""
    console = console or Console(stderr=True)
    for number, example in enumerate(examples[:num_shown], start=1):
        share = f"{int(example.is_target_T.sum())} of {len(example.ids_T)} tokens trained (green)"
        console.rule(Text(f"example {number}: row {example.row_id}, {share}{', cut' if example.is_cut else ''}"))
        console.print(colour(example, tokenizer))
