"""Token ids that a model may read, and those that end its answers."""

from collections.abc import Sequence
from pathlib import Path

from baihua.chat.render import Template
from baihua.chat.template import end_of_turn
from baihua.chat.types import TextTokenizer
from baihua.core.errors import InputError, TooLongError
from baihua.modelfiles.special_tokens import read_special_tokens


def end_ids(folder: Path, tokenizer: TextTokenizer, template: Template) -> list[int]:
    """The tokens that end an answer: those that a model folder lists, and the one that its template puts there."""
    return sorted({*read_special_tokens(folder, tokenizer.controls).ends, tokenizer.controls[end_of_turn(template)]})


def check_ids(ids: Sequence[int], what: str, *, max_tokens: int, num_tokens: int, model: str) -> None:
    """Raise an InputError unless there are 1 to `max_tokens` ids, all of a vocabulary of `num_tokens`.

    An id outside the embedding table would end the process on a GPU.
    """
    where = f"model {model}"
    if not 0 < len(ids) <= max_tokens:
        fix = "shorten it, or open the model with a larger context" if ids else "send a text"
        found = f"{what} may have 1 to {max_tokens:,} tokens, this one has {len(ids):,}"
        raise TooLongError(found, where=where, fix=fix)
    if not 0 <= min(ids) <= max(ids) < num_tokens:
        found = f"found token ids from {min(ids)} to {max(ids)}, but this model's are 0 to {num_tokens - 1}"
        raise InputError(found, where=where, fix="encode the text with this model's own tokenizer")
