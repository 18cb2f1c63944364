"""The backend that opens a model: by an address, a file or a folder."""

from dataclasses import replace
from pathlib import Path

from baihua.backends import replay
from baihua.chat import template
from baihua.chat.render import Template
from baihua.chat.types import ChatModel, Scorer, TextTokenizer
from baihua.core import kinds
from baihua.core.errors import InputError

ACCEPTED = (
    "a .gguf file, a model folder with config.json, a .jsonl script of {ask, answer} rows, or the http(s):// "
    "address of an OpenAI-compatible server"
)


def open_chat(
    model: str, *, num_threads: int | None = None, api_key: str | None = None, at_address: str | None = None
) -> ChatModel:
    """Open a model given as an address, a file or a folder; `at_address` names one of the models at an address."""
    if model.startswith(("http://", "https://")):
        from baihua.backends import http

        return http.open_chat(model, model=at_address, api_key=api_key)
    if at_address:
        what = f"--model {at_address} needs the address of a server, found something else"
        fix = "leave out --model, or give the http(s):// address of a server"
        raise InputError(what, where=model, fix=fix)
    path = Path(model).expanduser()
    if _is_file(path, ".gguf"):
        from baihua.backends.llama_cpp import chat as llama_cpp

        return llama_cpp.open_chat(path, num_threads=num_threads)
    if _is_file(path, ".jsonl"):
        return replay.open_chat(path)
    if _is_model_folder(path):
        from baihua.backends import transformers

        return transformers.open_chat(path, num_threads=num_threads)
    raise InputError(f"not a chat model: {_describe(path)}", where=model, fix=f"give {ACCEPTED}")


def open_scorer(path: Path) -> Scorer:
    """Open a .gguf file or a model folder for its log-probabilities."""
    if _is_file(path, ".gguf"):
        from baihua.backends.llama_cpp import scorer as llama_cpp

        return llama_cpp.open_scorer(path)
    if _is_model_folder(path):
        from baihua.backends import transformers

        return transformers.open_scorer(path)
    fix = "give a .gguf file or a model folder with config.json"
    raise InputError(f"not a model that gives log-probabilities: {_describe(path)}", where=str(path), fix=fix)


def open_template(name: str, model: Path) -> tuple[TextTokenizer, Template]:
    """The tokenizer of a model folder or a .gguf file, and the template of this name for it, `model` for its own."""
    if model.is_dir() or model.suffix != ".gguf":
        return template.open_template(name, model)
    from baihua.backends.llama_cpp.tokenizer import GgufTokenizer

    tokenizer = GgufTokenizer(model)
    own = tokenizer.template()
    ours = own if name == template.OWN else replace(own, name=name, jinja=kinds.find(template.TEMPLATES, name).JINJA)
    return tokenizer, ours


def _is_file(path: Path, suffix: str) -> bool:
    return path.suffix == suffix and path.is_file()


def _is_model_folder(path: Path) -> bool:
    # An adapter's folder goes to the same backend, whose error explains how to merge it.
    return (path / "config.json").is_file() or (path / "adapter_config.json").is_file()


def _describe(path: Path) -> str:
    if path.is_dir():
        return "a folder without config.json"
    if path.is_file():
        return f"a file of another kind ({path.suffix or 'no suffix'})"
    return "no such file or folder"
