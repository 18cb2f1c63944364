"""llama.cpp in this process."""

from collections.abc import Mapping
from pathlib import Path

from baihua.backends.llama_cpp.chat import open_chat
from baihua.serve.api.engine import LoadedModel


def open_engine(
    file: Path, *, num_slots: int, num_ctx: int, num_threads: int | None = None, adapters: Mapping[str, Path]
) -> LoadedModel:
    """Load a GGUF file; `adapters` maps names to GGUF files of LoRA adapters."""
    chat = open_chat(file, num_threads=num_threads, num_ctx=num_ctx, num_slots=num_slots, adapters=adapters)
    return LoadedModel(chat, chat.tokenizer, chat.template)
