"""`baihua serve`."""

import sys
import webbrowser
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from baihua.backends.llama_cpp import chat as llama_cpp
from baihua.cli import options as opt
from baihua.cli.models import adapter_as_gguf, as_gguf, named_models
from baihua.core.env import VARIABLES
from baihua.core.errors import InputError
from baihua.serve.api.app import serve as make_server
from baihua.serve.api.engine import Engine
from baihua.serve.engines import cluster as cluster_engine
from baihua.serve.engines import vllm
from baihua.serve.engines.cluster import ReplicaSettings
from baihua.serve.web import server


class EngineName(StrEnum):
    """The engines that can run a model."""

    llama_cpp = "llama_cpp"
    transformers = "transformers"
    vllm = "vllm"


def serve(
    models: Annotated[
        list[str], typer.Argument(help="GGUF files, model folders, adapters or runs; NAME=MODEL names one.")
    ],
    host: opt.Host = "127.0.0.1",
    port: opt.Port = 8080,
    api_key_file: opt.ApiKeyFile = None,
    engine: Annotated[EngineName, typer.Option(help="What runs the models.")] = EngineName.llama_cpp,
    level: Annotated[str, typer.Option(help="GGUF level to which a model folder is exported, once.")] = "q8_0",
    slots: Annotated[int, typer.Option(min=1, max=256, help="Answers that each model writes at once.")] = 4,
    context: Annotated[int, typer.Option(min=64, help="Tokens of a conversation with its answer.")] = 4096,
    max_waiting: Annotated[int, typer.Option(min=0, help="Length of each model's queue of requests.")] = 64,
    max_seconds: Annotated[float, typer.Option(min=1, help="Time limit of an answer, waiting included.")] = 600,
    threads: opt.Threads = None,
    replicas: Annotated[int | None, typer.Option(min=1, help="Processes of each model, on Ray Serve.")] = None,
    cluster: Annotated[str | None, typer.Option(metavar="ADDRESS|local", help="The Ray that runs them.")] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="LoRA adapter of the first model; clients request it as MODEL:NAME."),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the chat page in the browser.")] = False,
    runs: opt.Runs = opt.RUNS,
    debug: opt.Debug = False,
) -> None:
    """Serve models with OpenAI's API and a chat page, by default to this machine only."""
    key = server.read_key(api_key_file, VARIABLES, host=host)
    at = server.listen(host, port)
    used = None
    if replicas is not None or cluster is not None:
        used = ReplicaSettings(address=cluster or "local", num_replicas=replicas or 1, num_models=len(models))
    opened: dict[str, Engine] = {}
    for name, path in named_models(models, runs).items():
        adapters = {} if opened else _split(adapter or [])
        sizes = {"num_slots": slots, "num_ctx": context, "num_threads": threads}
        opened[name] = open_model(Path(path), runs, engine, level=level, adapters=adapters, replicas=used, **sizes)
    app, api = make_server(opened, key=key, max_waiting=max_waiting, max_answer_seconds=max_seconds)
    url = _announce(list(api.models), at.getsockname()[:2], has_key=key is not None)
    if open_page:
        webbrowser.open(url)
    server.run(app, at, on_stop=api.close_queues)


def open_model(
    path: Path,
    runs: Path,
    engine: EngineName,
    *,
    level: str,
    adapters: Mapping[str, Path],
    replicas: ReplicaSettings | None = None,
    num_slots: int,
    num_ctx: int,
    num_threads: int | None,
) -> Engine:
    """Open a model in an engine; for llama.cpp a model folder is exported first."""
    if engine is not EngineName.llama_cpp and adapters:
        raise InputError(f"{engine} cannot switch adapters", where="--adapter", fix="merge the adapter first")
    if engine is not EngineName.llama_cpp and replicas:
        fix = "leave out --engine or --replicas"
        raise InputError(f"replicas run llama.cpp, not {engine}", where="--replicas", fix=fix)
    if engine is EngineName.transformers:
        # Imports torch and transformers, which takes seconds.
        from baihua.backends import transformers

        return transformers.open_chat(path, num_slots=num_slots, num_threads=num_threads)
    if engine is EngineName.vllm:
        return vllm.open_engine(path, num_slots=num_slots, num_ctx=num_ctx)
    file = as_gguf(path, runs, level=level)
    added = {name: adapter_as_gguf(folder, file, runs) for name, folder in adapters.items()}
    sizes = {"num_slots": num_slots, "num_ctx": num_ctx, "num_threads": num_threads}
    if replicas:
        return cluster_engine.open_engine(file, settings=replicas, adapters=added, **sizes)
    return llama_cpp.open_chat(file, adapters=added, **sizes)


def _split(adapters: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for one in adapters:
        name, _, folder = one.partition("=")
        if not name or not folder or name in found:
            raise InputError("each adapter needs its own name", where=f"--adapter {one}", fix="NAME=FOLDER")
        found[name] = Path(folder)
    return found


def _announce(names: list[str], address: tuple[str, int], *, has_key: bool) -> str:
    host, port = address
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    print(f"chat page  {url}/\nAPI        {url}/v1\nmodels     {', '.join(names)}", file=sys.stderr)
    if has_key:
        print("open to everyone who reaches this address and has the key: the models above, /metrics", file=sys.stderr)
    return f"{url}/"
