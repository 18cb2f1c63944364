"""A model's name on the command line becomes the backend that opens it."""

from pathlib import Path

from baihua.chat.types import ChatModel, Scorer
from baihua.core.errors import InputError

ACCEPTED = (
    "a .gguf file, a model folder with config.json, a .jsonl script of {ask, answer} rows, or the http(s):// "
    "address of an OpenAI-compatible server"
)


def open_chat(
    model: str, *, num_threads: int | None = None, api_key: str | None = None, at_address: str | None = None
) -> ChatModel:
    """Open a model by what it looks like: an address, a file or a folder.

    `at_address` names the one that is meant where an address has several.
    """
    if model.startswith(("http://", "https://")):
        from baihua.backends import http

        return http.open_chat(model, model=at_address, api_key=api_key)
    if at_address:
        raise InputError(
            f"this is no address, so there is no model {at_address!r} to choose",
            where=model,
            fix="leave out --model, or give the http(s):// address of a server",
        )
    path = Path(model).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        from baihua.backends.llama_cpp import chat as llama_cpp

        return llama_cpp.open_chat(path, num_threads=num_threads)
    if path.suffix == ".jsonl" and path.is_file():
        from baihua.backends import replay

        return replay.open_chat(path)
    if _is_model_folder(path):
        from baihua.backends import transformers

        return transformers.open_chat(path, num_threads=num_threads)
    raise InputError(f"cannot chat with this: {_describe(path)}", where=model, fix=f"give {ACCEPTED}")


def open_scorer(path: Path) -> Scorer:
    """Open what gives log-probabilities: a .gguf file or a model folder."""
    if path.suffix == ".gguf" and path.is_file():
        from baihua.backends.llama_cpp import scorer as llama_cpp_scorer

        return llama_cpp_scorer.open_scorer(path)
    if _is_model_folder(path):
        from baihua.backends import transformers

        return transformers.open_scorer(path)
    raise InputError(
        f"cannot score with this: {_describe(path)}",
        where=str(path),
        fix="give a .gguf file or a model folder with config.json",
    )


def _is_model_folder(path: Path) -> bool:
    # An adapter's folder goes to the same backend, which says what to do with it.
    return (path / "config.json").is_file() or (path / "adapter_config.json").is_file()


def _describe(path: Path) -> str:
    if path.is_dir():
        return "a folder without config.json"
    if path.is_file():
        return f"a file of another kind ({path.suffix or 'no suffix'})"
    return "no such file or folder"
