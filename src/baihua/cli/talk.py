"""The verb that talks to a model: chat."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from baihua.cli.options import RUNS, Debug, Runs, prepare

QUESTIONS = ("你好，你是谁？", "水在多少摄氏度会沸腾？", "把“我今天非常高兴”改成更正式的说法。", "写一句关于春天的话。")


def chat(
    model: Annotated[str, typer.Argument(help="A .gguf file, a model folder, a run, or an http(s) address.")],
    system: Annotated[str | None, typer.Option(help="The system message.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.7,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 512,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; all cores when left out.")] = None,
    at_address: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="Which model of an address; its first when left out.")
    ] = None,
    plain: Annotated[bool, typer.Option(help="Show answers as they come, not as Markdown.")] = False,
    runs: Runs = RUNS,
    debug: Debug = False,
) -> None:
    """Talk to a model in the terminal; /help lists the commands."""
    prepare(debug=debug)
    talk = Talk(system=system, temperature=temperature, max_tokens=max_tokens, is_plain=plain)
    start_chat(model, runs=runs, talk=talk, threads=threads, at_address=at_address)


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """How to talk."""

    system: str | None = None
    temperature: float = 0.7
    max_tokens: int = 512
    is_plain: bool = False


def start_chat(
    name: str, *, runs: Path, talk: Talk | None = None, threads: int | None = None, at_address: str | None = None
) -> None:
    """Open a model by name and talk until the user leaves."""
    from baihua.backends.choose import open_chat
    from baihua.chat.types import Sampling
    from baihua.core.env import Environment
    from baihua.serve.terminal.repl import run_repl

    talk = talk or Talk()
    model = open_chat(
        find_model(name, runs),
        num_threads=threads,
        api_key=Environment().get("BAIHUA_API_KEY") or None,
        at_address=at_address,
    )
    runs.mkdir(parents=True, exist_ok=True)
    try:
        run_repl(
            model,
            system=talk.system,
            sampling=Sampling(temperature=talk.temperature, max_tokens=talk.max_tokens),
            history_file=runs / "chat-history",
            save_folder=Path(),
            is_plain=talk.is_plain,
        )
    finally:
        model.close()


def sample_replies(name: str, *, runs: Path) -> None:
    """Print a few greedy replies, for when nobody sits at the terminal."""
    from baihua.backends.choose import open_chat
    from baihua.chat.types import Message, Sampling

    model = open_chat(find_model(name, runs))
    for question in QUESTIONS:
        pieces = model.stream([Message("user", question)], Sampling(temperature=0.0, max_tokens=96))
        print(f"\n你：{question}\n白话：{''.join(piece.text for piece in pieces)}")
    model.close()


def find_model(name: str, runs: Path) -> str:
    """What a MODEL argument means: an address, a path, or a run, whose chosen model is printed."""
    from baihua.core.run import find_run, served_model

    if name.startswith(("http://", "https://")):
        return name
    run = find_run(name, runs)
    if run is None:
        return name
    chosen = served_model(run)
    print(f"model: {chosen}", file=sys.stderr)
    return str(chosen)
