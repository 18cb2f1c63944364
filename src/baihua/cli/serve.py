"""The verb that lets others talk to models: serve."""

import sys
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baihua.cli.export import adapter_as_gguf, as_gguf
from baihua.cli.options import RUNS, Debug, Runs, prepare
from baihua.cli.talk import find_model
from baihua.core.errors import InputError

if TYPE_CHECKING:
    from baihua.serve.api.engine import LoadedModel
    from baihua.serve.engines.cluster import ReplicaSettings


class EngineName(StrEnum):
    """The engines that can run a model."""

    llama_cpp = "llama_cpp"
    transformers = "transformers"
    vllm = "vllm"


def serve(
    models: Annotated[
        list[str],
        typer.Argument(help="Each a .gguf file, a model folder, an adapter or a run; NAME=MODEL names it for clients."),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen at; any but this machine's own needs a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File with the key that clients must send (or BAIHUA_API_KEY).")
    ] = None,
    engine: Annotated[EngineName, typer.Option(help="The engine that runs the model.")] = EngineName.llama_cpp,
    level: Annotated[str, typer.Option(help="GGUF level in which a model folder is exported, once.")] = "q8_0",
    slots: Annotated[int, typer.Option(min=1, max=256, help="Answers that each model writes at once.")] = 4,
    context: Annotated[int, typer.Option(min=64, help="Tokens of a conversation with its answer.")] = 4096,
    max_waiting: Annotated[int, typer.Option(min=0, help="Requests that wait for each model.")] = 64,
    max_seconds: Annotated[float, typer.Option(min=1, help="Longest time for an answer, its wait included.")] = 600,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; all cores when left out.")] = None,
    replicas: Annotated[int | None, typer.Option(min=1, help="Processes for each model, on Ray Serve.")] = None,
    cluster: Annotated[str | None, typer.Option(metavar="ADDRESS|local", help="The Ray that runs them.")] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER", help="LoRA adapter of the first model, which clients ask for as MODEL:NAME."
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the chat page in the browser.")] = False,
    runs: Runs = RUNS,
    debug: Debug = False,
) -> None:
    """Serve models: OpenAI's API and a chat page, on this machine unless told otherwise."""
    from baihua.core.env import Environment
    from baihua.serve.api.app import Limits
    from baihua.serve.api.app import serve as make_server
    from baihua.serve.web.access import Rules
    from baihua.serve.web.server import listen, read_key, run

    prepare(debug=debug)
    key = read_key(api_key_file, Environment(), host=host)
    at = listen(host, port)
    wanted = Wanted(
        engine=engine,
        level=level,
        num_slots=slots,
        num_ctx=context,
        num_threads=threads,
        replicas=_replicas(replicas, cluster, num_models=len(models)),
    )
    opened = {
        name: wanted.open(Path(path), runs, adapters=_split(adapter or []) if number == 0 else {})
        for number, (name, path) in enumerate(named_models(models, runs).items())
    }
    app, api = make_server(
        opened, rules=Rules(key=key), limits=Limits(max_waiting=max_waiting, max_answer_seconds=max_seconds)
    )
    url = _announce(list(api.models), at.getsockname()[:2], has_key=key is not None)
    if open_page:
        webbrowser.open(url)
    run(app, at, on_stop=api.close_queues)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How each model is opened."""

    engine: EngineName
    level: str
    num_slots: int
    num_ctx: int
    num_threads: int | None
    replicas: "ReplicaSettings | None" = None

    def open(self, path: Path, runs: Path, *, adapters: Mapping[str, Path]) -> "LoadedModel":
        """Open a model, exported first where its engine needs a GGUF file."""
        if self.engine is not EngineName.llama_cpp and adapters:
            raise InputError(f"the engine {self.engine} switches no adapters", where="--adapter", fix="merge it first")
        if self.engine is not EngineName.llama_cpp and self.replicas:
            raise InputError(
                f"replicas run llama.cpp, not {self.engine}", where="--replicas", fix="leave out --engine or --replicas"
            )
        if self.engine is EngineName.transformers:
            from baihua.serve.engines import transformers

            return transformers.open_engine(path, num_slots=self.num_slots, num_threads=self.num_threads)
        if self.engine is EngineName.vllm:
            from baihua.serve.engines import vllm

            return vllm.open_engine(path, num_slots=self.num_slots, num_ctx=self.num_ctx)
        file = as_gguf(path, runs, level=self.level)
        added = {name: adapter_as_gguf(folder, file, runs) for name, folder in adapters.items()}
        if self.replicas:
            from baihua.serve.engines import cluster

            open_engine = partial(cluster.open_engine, settings=self.replicas)
        else:
            from baihua.serve.engines import llama_cpp

            open_engine = llama_cpp.open_engine
        return open_engine(
            file, num_slots=self.num_slots, num_ctx=self.num_ctx, num_threads=self.num_threads, adapters=added
        )


def _replicas(replicas: int | None, address: str | None, *, num_models: int) -> "ReplicaSettings | None":
    if replicas is None and address is None:
        return None
    from baihua.serve.engines.cluster import ReplicaSettings

    return ReplicaSettings(address=address or "local", num_replicas=replicas or 1, num_models=num_models)


def _split(adapters: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for one in adapters:
        name, _, folder = one.partition("=")
        if not name or not folder or name in found:
            raise InputError("an adapter needs a name of its own", where=f"--adapter {one}", fix="NAME=FOLDER")
        found[name] = Path(folder)
    return found


def named_models(models: list[str], runs: Path) -> dict[str, str]:
    """Each model by the name that people see: the given one, else the run's, file's or folder's."""
    found: dict[str, str] = {}
    for model in models:
        name, is_named, place = model.partition("=")
        if not is_named or "/" in name or ":" in name:
            name, place = Path(model).stem if model.endswith(".gguf") else Path(model).name, model
        if name in found or not name:
            raise InputError(f"two models would have the name {name!r}", where=model, fix="name them: NAME=MODEL")
        found[name] = find_model(place, runs)
    return found


def _announce(names: list[str], address: tuple[str, int], *, has_key: bool) -> str:
    host, port = address
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    print(f"chat page  {url}/\nAPI        {url}/v1\nmodels     {', '.join(names)}", file=sys.stderr)
    if has_key:
        print("open to whoever can reach this address and has the key: every model above, /metrics", file=sys.stderr)
    return f"{url}/"
