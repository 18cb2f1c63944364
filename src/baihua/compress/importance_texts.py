"""Rows of the user's data as token ids, for collecting the importance matrix."""

from collections.abc import Iterator
from pathlib import Path

from baihua.chat.template import OWN, open_template
from baihua.chat.tokenizer import FolderTokenizer
from baihua.compress.damage.texts import has_conversations
from baihua.data.rows import find_table, read_rows, read_values
from baihua.model.examples import Encoder

MAX_LENGTH = 512
"""Tokens of a row: what llama.cpp's own tool takes for a chunk."""


def read_texts(model_folder: Path, data: Path, *, num_tokens: int) -> list[list[int]]:
    """Conversations as the model's template renders them, or documents, until there are `num_tokens` tokens."""
    rows = _conversations(model_folder, data) if has_conversations(data) else _documents(model_folder, data)
    texts: list[list[int]] = []
    left = num_tokens
    for ids in rows:
        texts.append(ids[: min(left, MAX_LENGTH)])
        left -= len(texts[-1])
        if left == 0:
            break
    return [ids for ids in texts if ids]


def _conversations(model_folder: Path, data: Path) -> Iterator[list[int]]:
    encoder = Encoder(*open_template(OWN, model_folder))
    for row in read_rows(data):
        yield encoder.encode(row.id, row.messages).ids_T.tolist()


def _documents(model_folder: Path, data: Path) -> Iterator[list[int]]:
    tokenizer = FolderTokenizer(model_folder)
    first = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    for record in read_values(find_table(data)):
        yield first + tokenizer.encode(record["text"])
