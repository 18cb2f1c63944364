"""transformers in this process, for models that llama.cpp does not support."""

from pathlib import Path

from baihua.backends.transformers import open_chat
from baihua.serve.api.engine import LoadedModel


def open_engine(folder: Path, *, num_slots: int, num_threads: int | None = None) -> LoadedModel:
    """Load a model folder."""
    chat = open_chat(folder, num_slots=num_slots, num_threads=num_threads)
    return LoadedModel(chat, chat.tokenizer, chat.template)
